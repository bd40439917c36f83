"""Tables and figures as files: CSV, LaTeX, and HTML pages that need nothing else, not even a network."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
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

_TEMPLATES = Environment(
    loader=PackageLoader("tal_core.plots"), autoescape=True, keep_trailing_newline=True, trim_blocks=False
)

# ---------------------------------------------------------------- tables


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated values with all digits; the index is left out."""
    return table.to_csv(index=False)


def to_latex(table: pd.DataFrame, caption: str = "") -> str:
    """A ``table`` float with the rules of the package booktabs; every text is escaped.

    Numbers are rounded as on the page (`cell_texts`) and stand to the right; the index is left out.
    """
    texts = pd.DataFrame(
        {
            latex_text(str(name)): [latex_text(text) for text in cell_texts(column)]
            for name, column in table.items()
        }
    )
    if len(texts.columns):
        # A star or bracket would be taken for an argument of the line break before it.
        texts.iloc[:, 0] = ["{}" * text.startswith(("*", "[")) + text for text in texts.iloc[:, 0]]
    label = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")
    lines = texts.style.hide(axis="index").to_latex(
        column_format="".join("r" if _is_number(column) else "l" for _, column in table.items()),
        hrules=True,
        position_float="centering",
        caption=latex_text(caption) or None,
        label=f"tab:{label}" if label else None,
    )
    return "% needs \\usepackage{booktabs} in the preamble\n" + lines


def latex_text(text: str) -> str:
    """Any text as LaTeX shows it literally."""
    # Hyphens next to each other would become a dash.
    apart = re.sub("-(?=-)", "-\0", text)
    return "".join(_LATEX.get(character, character) for character in apart)


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
    columns = [(name, "number" if _is_number(column) else "") for name, column in table.items()]
    rows = zip(*(cell_texts(column) for _, column in table.items()), strict=True)
    return _TEMPLATES.get_template("table.html").render(columns=columns, rows=rows)


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
    return _TEMPLATES.get_template("figure.html").render(drawn=drawn, key=key, file=file_name(name))


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of HTML parts, with Plotly's program in it once. It loads nothing from anywhere."""
    return _TEMPLATES.get_template("page.html").render(title=title, parts=parts, plotly=get_plotlyjs())


def figure_page(figure: go.Figure, name: str) -> str:
    """A figure as a page of its own, to zoom and to hover over without the app."""
    return page(name, [html_figure(figure, name, "figure")])
