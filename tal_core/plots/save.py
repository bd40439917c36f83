"""Tables and figures as files: CSV, LaTeX, and HTML pages that need nothing else, not even a network."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

EMPTY = "–"
"""What a table shows where there is no value."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "×": r"$\times$",
    "\u202f": r"\,",
    "\0": "{}",
    "\n": " ",
    "\r": " ",
    "\t": " ",
}

# A page can neither load from elsewhere nor send anything there; Plotly builds its code for dense figures.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_STYLE = """
html { color: #1d2733; background: #fff; font: 15px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
body { max-width: 760px; margin: 2.5rem auto; padding: 0 20px }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .6rem; padding-top: .7rem; border-top: 1px solid #d5dce3 }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .3rem }
h1, h2, h3, td, th, p { overflow-wrap: anywhere }
p { margin: .5rem 0 } .quiet { color: #586675; font-size: .9rem }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums }
th { text-align: left; border-bottom: 1.5px solid #586675 } td { border-bottom: 1px solid #e4e9ee }
th, td { padding: .25rem .8rem .25rem 0; vertical-align: top } .number { text-align: right }
.figure { margin: .8rem 0 1.2rem; break-inside: avoid; overflow-x: auto }
.save { text-align: right; font-size: .8rem; color: #586675 }
.save button { font: inherit; color: #1c6875; background: none; border: 0; padding: .1rem .25rem;
  cursor: pointer; text-decoration: underline }
h2, h3 { break-after: avoid } tr { break-inside: avoid }
@page { margin: 14mm }
@media print { .save { display: none } body { margin: 0 auto; padding: 0 } html { font-size: 13px }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""
_SAVE = """
document.addEventListener("click", event => {
  const button = event.target.closest("button[data-figure]");
  if (!button) return;
  const figure = document.getElementById(button.dataset.figure);
  const { width, height } = figure.getBoundingClientRect();
  Plotly.downloadImage(figure, { format: button.dataset.format, filename: figure.dataset.file, width, height,
    scale: button.dataset.format === "png" ? 3 : 1 });
});
"""

# ---------------------------------------------------------------- tables


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated values with all digits; the index is left out."""
    return table.to_csv(index=False)


def to_latex(table: pd.DataFrame, caption: str = "") -> str:
    """A ``table`` float with the rules of the package booktabs; every text is escaped.

    Numbers are rounded as on the page (`cell_texts`) and stand to the right; the index is left out.
    """
    names = list(table.columns)
    numeric = [_is_number(table[name]) for name in names]
    columns = [[latex_text(text) for text in cell_texts(table[name])] for name in names]
    rows = [[latex_text(str(name)) for name in names], *(list(row) for row in zip(*columns, strict=True))]
    head, *body = [f"    {_row_start(' & '.join(row))} \\\\" for row in rows]
    label = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")
    lines = [
        r"% needs \usepackage{booktabs} in the preamble",
        r"\begin{table}",
        r"  \centering",
        *([f"  \\caption{{{latex_text(caption)}}}"] if caption else []),
        *([f"  \\label{{tab:{label}}}"] if label else []),
        f"  \\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
        r"    \toprule",
        head,
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Any text as LaTeX shows it literally."""
    # Hyphens next to each other would become a dash.
    apart = re.sub("-(?=-)", "-\0", text)
    return "".join(_LATEX.get(character, character) for character in apart)


def _row_start(row: str) -> str:
    r"""``\\`` of the line before would take a star or bracket for its argument."""
    return f"{{}}{row}" if row.startswith(("*", "[")) else row


def cell_texts(column: pd.Series) -> list[str]:
    """A column as short texts: whole numbers without decimals, others with two from 10 on, else three."""
    if not _is_number(column):
        return [_text(value) for value in column]
    values = column.to_numpy(dtype=float, na_value=np.nan)
    finite = values[np.isfinite(values)]
    digits = 0 if (finite == np.round(finite)).all() else 2 if np.abs(finite).max() >= 10 else 3
    return [f"{value:.{digits}f}" if np.isfinite(value) else EMPTY for value in values]


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _text(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and not np.isfinite(value)):
        return EMPTY
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


def html_table(table: pd.DataFrame) -> str:
    """The table as HTML; every text is escaped."""
    kinds = ["number" if _is_number(table[name]) else "" for name in table.columns]
    head = "".join(_cell("th", str(name), kind) for name, kind in zip(table.columns, kinds, strict=True))
    columns = [cell_texts(table[name]) for name in table.columns]
    body = "".join(
        "<tr>" + "".join(_cell("td", text, kind) for text, kind in zip(row, kinds, strict=True)) + "</tr>\n"
        for row in zip(*columns, strict=True)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def _cell(tag: str, text: str, kind: str) -> str:
    start = f'<{tag} class="{kind}">' if kind else f"<{tag}>"
    return f"{start}{html.escape(text)}</{tag}>"


# ---------------------------------------------------------------- figures and pages


def camera(name: str, image: str = "svg") -> dict:
    """Plotly's settings for a figure: its camera button saves ``name`` as ``image`` (svg or png)."""
    options = {"format": image, "filename": file_name(name), "scale": 3 if image == "png" else 1}
    return {"displaylogo": False, "toImageButtonOptions": options}


def file_name(name: str) -> str:
    """``name`` without what a file system or a shell might stumble over."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "export"


def html_figure(figure: go.Figure, name: str, key: str, width: int | None = None) -> str:
    """A figure for `page`, on white; ``key``: its id there; ``width`` in pixels, else as wide as the page."""
    shown = go.Figure(figure).update_layout(
        template="plotly_white", paper_bgcolor="white", font={"color": "#1d2733"}, width=width
    )
    config = {**camera(name), "responsive": width is None}
    height = f"{shown.layout.height or 450}px"
    drawn = shown.to_html(
        config, include_plotlyjs=False, full_html=False, div_id=key, default_height=height, validate=False
    )
    file = html.escape(file_name(name), quote=True)
    drawn = drawn.replace(f'<div id="{key}"', f'<div id="{key}" data-file="{file}"', 1)
    buttons = " ".join(
        f'<button data-figure="{key}" data-format="{image}">{image.upper()}</button>'
        for image in ("svg", "png")
    )
    return f'<div class="figure">{drawn}<div class="save">Save as {buttons}</div></div>\n'


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of HTML parts, with Plotly's program in it once. It loads nothing from anywhere."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n"
        + "".join(parts)
        + f"<script>{_SAVE}</script>\n</body>\n</html>\n"
    )


def figure_page(figure: go.Figure, name: str) -> str:
    """A figure as a page of its own, to zoom and to hover over without the app."""
    return page(name, [html_figure(figure, name, "figure")])
