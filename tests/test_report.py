"""The report, and tables and figures as files."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from tal_core.cli import main
from tal_core.data.dataset.dataset import open_dataset
from tal_core.importing.run_of_detections import keep_detections
from tal_core.plots import save
from tal_core.report import make_report
from tal_core.runs.run import open_run
from tal_core.types import InputError

DEMO_FIGURES = 11  # mAP, classes, AR@AN, six of the diagnosis, loss, validation


class Page(HTMLParser):
    """What a browser would fetch, run and show of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.tags, self.words, self.open, self.scripts = [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open = tag
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        (self.scripts if self.open == "script" else self.words).append(data)

    @property
    def figures(self) -> int:
        return sum("Plotly.newPlot(" in script and len(script) < 500_000 for script in self.scripts)


@pytest.fixture
def demo(home):
    return open_dataset(home, "demo")


@pytest.fixture
def weaker(demo, home):
    """The shipped run without its detections of three classes, kept as a run."""
    detections = open_run(home, "demo-baseline").detections()
    kept = detections[~detections["label"].isin(demo.labels[:3])]
    return keep_detections(home, demo, kept, "w.json", run_id="weaker")[0]


def test_latex_shows_every_character_literally():
    assert save.latex_text("50% of A_b & {c} #1 $x$") == r"50\% of A\_b \& \{c\} \#1 \$x\$"
    assert save.latex_text("~^<>|\\") == (
        r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\textbackslash{}"
    )
    assert save.latex_text("--out --- a-b") == "-{}-out -{}-{}- a-b"
    assert save.latex_text("two\nlines\u202fthin – ×") == r"two lines\,thin -- $\times$"


def test_latex_table_is_one_that_compiles():
    table = pd.DataFrame(
        {
            "run_id": ["a&b", "[c]", "*"],
            "mAP@0.5 (%)": [55.123, np.nan, 7.0],
            "videos": [1, 20, 3],
            "speed": [0.5, 1.25, 2.0],
        }
    )
    lines = save.to_latex(table, "My 50% table").splitlines()
    text = "\n".join(lines)
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 1
    rules = [lines.index(f"\\{rule}rule") for rule in ("top", "mid", "bottom")]
    assert rules == sorted(rules)
    assert r"\begin{tabular}{lrrr}" in text and r"\caption{My 50\% table}" in text
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 4 and all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert rows[1].split() == [r"a\&b", "&", "55.12", "&", "1", "&", "0.500", r"\\"]
    # A star or bracket would be taken for an argument of the line break before it.
    assert rows[2].strip().startswith("{}[c] & --") and rows[3].strip().startswith("{}*")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_csv_keeps_all_digits():
    assert save.to_csv(pd.DataFrame({"a": [1 / 3], "b": ['x,"y"']})) == (
        'a,b\n0.3333333333333333,"x,""y"""\n'
    )


def test_html_tables_and_figures_are_escaped():
    evil = "</script><script>alert(1)</script><img src=http://x onerror=a>"
    figure = go.Figure().add_bar(x=[evil], y=[1.0], name=evil)
    page = save.page(
        evil, [save.html_table(pd.DataFrame({evil: [evil]})), save.html_figure(figure, evil, "f")]
    )
    shown = Page(page)
    assert not shown.addresses and "img" not in shown.tags
    assert not any(script.strip().startswith("alert") for script in shown.scripts)
    assert evil in "".join(shown.words)


def test_a_figure_page_stands_alone():
    text = save.figure_page(go.Figure().add_bar(x=["a"], y=[1.0]), "my figure")
    shown = Page(text)
    assert shown.figures == 1 and not shown.addresses and "link" not in shown.tags
    assert "connect-src" not in text and "default-src 'none'" in text, "nothing may be fetched"


def test_report_of_the_shipped_run(demo, home):
    run = open_run(home, "demo-baseline")
    shown = Page(text := make_report(demo, [run], subset=demo.evaluation_subset))
    assert shown.figures == DEMO_FIGURES
    assert not shown.addresses and "link" not in shown.tags, "needs nothing from elsewhere"
    assert len(re.findall(r"plotly\.js v\d", text)) == 1, "Plotly is in it once"
    words = "".join(shown.words)
    assert f"{100 * run.evaluation().average_mAP:.2f} %" in words
    for expected in (
        "learning_rate",
        "mAP@0.5",
        "annotations counted",
        "AR@100",
        "F1@50",
        *demo.labels,
        "parameters",
    ):
        assert expected in words, expected


def test_report_of_two_says_how_they_differ(demo, home, weaker):
    runs = [open_run(home, "demo-baseline"), weaker]
    words = "".join((shown := Page(make_report(demo, runs, subset="testing", tiou=[0.5]))).words)
    assert shown.figures == 3 + 2 * 6 + 2 and not shown.addresses
    assert "demo-baseline against weaker on demo" in words
    assert "weaker minus demo-baseline: -" in words and "95 % interval" in words
    assert "difference (points)" in words and "weaker recorded no training" in words


def test_command_writes_the_page_and_refuses_in_one_line(home, demo, weaker, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert main(["report", "--run", "demo-baseline", "--run", "weaker", "--out", str(out)]) == 0
    assert Page(out.read_text()).figures == 17

    def refused(*arguments):
        assert main(["report", *arguments]) == 2
        line = capsys.readouterr().err.strip().splitlines()
        assert len(line) == 1
        return line[0]

    assert "'nope'" in refused("--run", "nope", "--out", str(out))
    assert "given twice" in refused("--run", "weaker", "weaker", "--out", str(out))
    assert "not of 3" in refused("--run", "weaker", "weaker", "weaker", "--out", str(out))
    assert ".html" in refused("--run", "weaker", "--out", str(tmp_path / "report.pdf"))
    assert "'nowhere'" in refused("--run", "weaker", "--subset", "nowhere", "--out", str(out))
    (weaker.folder / "detections.json").unlink()
    assert "no detections yet" in refused("--run", "weaker", "--out", str(out))


def test_runs_of_two_datasets_are_refused(demo, home, weaker):
    config = (weaker.folder / "config.json").read_text()
    (weaker.folder / "config.json").write_text(config.replace('"demo"', '"other"'))
    with pytest.raises(InputError, match="weaker is of other"):
        make_report(demo, [open_run(home, "demo-baseline"), weaker], subset=None)
    with pytest.raises(InputError, match="not of the dataset"):
        make_report(demo, [weaker], subset=None)
