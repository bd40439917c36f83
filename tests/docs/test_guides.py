"""The Python in the guides runs, on the demo."""

import re

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.lint
PAGES = ("guide/lab.md", "reference.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TAL_HOME", str(tmp_path))
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out
