"""What every page needs: cached loaders, the error box, pickers in the address bar, words for numbers."""

from __future__ import annotations

import itertools
import math
import runpy
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from tal_core import workspace
from tal_core.data import dataset as datasets
from tal_core.data import registry
from tal_core.training import run as training_runs
from tal_core.types import InputError, Progress

PAGES = {
    name: f"pages/{name}.py"
    for name in (
        "overview",
        "explore",
        "train",
        "timeline",
        "evaluate",
        "diagnose",
        "compare",
        "detect",
        "live",
    )
}
STATE_MARKS = {
    "created": ":gray[:material/schedule:]",
    "running": ":blue[:material/play_circle:]",
    "stopping": ":orange[:material/pending:]",
    "stopped": ":orange[:material/stop_circle:]",
    "finished": ":green[:material/check_circle:]",
    "failed": ":red[:material/error:]",
    "killed": ":red[:material/cancel:]",
}

MOST_DATASETS = 8
"""Opened datasets kept in memory."""

# ---------------------------------------------------------------- errors and progress


def show_error(error: InputError) -> None:
    """A box that says what is wrong, where, and how to mend it."""
    lines = [f"**{str(error.what).rstrip('.')}.**"]
    if error.where is not None:
        lines.append(f"Where: `{error.where}`")
    if error.mend:
        lines.append(f"What to do: {error.mend}")
    st.error("\n\n".join(lines), icon=":material/error:")


@contextmanager
def guard(*, stop: bool = True) -> Iterator[None]:
    """Show an ``InputError`` from the block as a box; then end the page, or with ``stop=False`` go on."""
    try:
        yield
    except InputError as error:
        show_error(error)
        if stop:
            st.stop()


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Give the block a ``Progress`` that draws a bar, once the work has taken half a second."""
    place, begin, last = st.empty(), time.monotonic(), 0.0

    def report(done: int, total: int, message: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - begin < 0.5 or (now - last < 0.1 and done < total):
            return
        last = now
        text = f"{title}: {message}" if message else title
        place.progress(min(done / total, 1.0) if total else 0.0, text=text)

    try:
        yield report
    finally:
        place.empty()


# ---------------------------------------------------------------- cached loaders


def home() -> Path:
    """The workspace folder of this app."""
    return workspace.home()


def changed(*paths: Any) -> tuple[int, ...]:
    """When each file or folder last changed; 0 for what isn't there. Part of every cache key."""
    stamps = []
    for path in paths:
        try:
            stamps.append(Path(path).stat().st_mtime_ns)
        except (OSError, TypeError):
            stamps.append(0)
    return tuple(stamps)


@st.cache_resource(show_spinner=False)
def _opened() -> dict[tuple, datasets.Dataset]:
    """Opened datasets by what they were made from, latest last. A plain function with ``cache_resource``
    couldn't draw its progress: Streamlit would replay the bar at every hit."""
    return {}


def _dataset_key(name: str) -> tuple:
    entry = registry.load_entry(home(), name)
    files = (entry.annotations, entry.video_info, entry.blocked, *entry.features)
    return (str(home()), entry.model_dump_json(), *changed(*files))


def load_dataset(name: str) -> datasets.Dataset:
    """The opened dataset, shared by all sessions: never change its tables.

    Read again when its registry entry, annotations or feature folders change. Raises InputError.
    """
    key, opened = _dataset_key(name), _opened()
    if key not in opened:
        with progress(f"Opening {name}") as report:
            opened[key] = datasets.open_dataset(home(), name, progress=report)
        for old in list(opened)[:-MOST_DATASETS]:
            opened.pop(old, None)
    return opened[key]


def check_again(name: str) -> None:
    """Read a dataset's files anew, every value included: sees changes in place. Raises InputError."""
    with progress(f"Checking {name}") as report:
        _opened()[_dataset_key(name)] = datasets.open_dataset(home(), name, report, scan_all=True)


@st.cache_resource(max_entries=8, show_spinner="Reading detections")
def _read_detections(_run: training_runs.Run, key: tuple) -> pd.DataFrame:  # pylint: disable=unused-argument
    return _run.detections()


def _detections_key(run: training_runs.Run) -> tuple:
    with guard(stop=False):
        entry = registry.load_entry(home(), run.config()["dataset"])
        blocked = (str(entry.blocked), *changed(entry.blocked))
        return (str(run.folder), *changed(run.folder / "detections.json"), *blocked)
    return (str(run.folder), *changed(run.folder / "detections.json"))


def load_detections(run: training_runs.Run) -> pd.DataFrame:
    """The run's detections, shared by all sessions: never change the table. Raises InputError."""
    return _read_detections(run, _detections_key(run))


# ---------------------------------------------------------------- the address bar


def choice(key: str) -> list[str] | None:
    """What the address bar says for ``key`` (several values: the key several times), else what this session
    chose before, else None."""
    if key in st.query_params:
        return [text for text in st.query_params.get_all(key) if text]
    return st.session_state.get(f"choice:{key}")


def remember(key: str, values: Sequence[Any]) -> None:
    """Put a choice into the address bar (so that a link shares it) and the session (so pages keep it)."""
    texts = [str(value) for value in values]
    shown = texts or [""]  # nothing chosen is a choice, too
    if st.query_params.get_all(key) != shown:
        st.query_params[key] = shown
    st.session_state[f"choice:{key}"] = texts


def forget(*keys: str) -> None:
    """Drop choices that no longer make sense, such as the video after another dataset was chosen."""
    for key in keys:
        st.query_params.pop(key, None)
        st.session_state.pop(f"choice:{key}", None)


def pick(
    label: str,
    options: Sequence[str],
    key: str,
    *,
    default: Sequence[str] = (),
    kind: Literal["selectbox", "multiselect", "segmented_control", "select_slider"] = "selectbox",
    resets: Sequence[str] = (),
    place: Any = None,
    **widget: Any,
) -> Any:
    """A widget whose choice lives in the address bar under ``key``: one option, or a list (multiselect).

    A link that asks for something that isn't there gets a warning and the default. Choosing something
    else drops the choices named in ``resets``.
    """
    multiple = kind == "multiselect"
    asked = choice(key)
    known = [value for value in (default if asked is None else asked) if value in options]
    missing = [value for value in asked or () if value not in options and key in st.query_params]
    if missing:
        names = ", ".join(f"`{value}`" for value in missing)
        st.warning(f"The link asks for {label.lower()} {names}, which isn't here. Choose another one.")
    if not known and options and not multiple:
        known = [next((d for d in default if d in options), options[0])]
    widget_key = f"pick:{key}"
    st.session_state[widget_key] = known if multiple else (known[0] if known else None)

    def changed() -> None:
        value = st.session_state[widget_key]
        remember(key, value if multiple else [value] if value is not None else [])
        forget(*resets)

    chosen = getattr(place or st, kind)(label, options, key=widget_key, on_change=changed, **widget)
    remember(key, chosen if multiple else [chosen] if chosen is not None else [])
    return chosen


def pick_dataset(place: Any = None) -> datasets.Dataset:
    """The dataset picker, and the dataset. Ends the page with a box when it can't be opened.

    A link that names only a run opens that run's dataset.
    """
    with guard():
        names = [entry.name for entry in registry.list_datasets(home())]
        default = []
        if "dataset" not in st.query_params and st.query_params.get("run"):
            with guard(stop=False):
                run = training_runs.open_run(home(), st.query_params.get_all("run")[0])
                default = [run.config()["dataset"]]
                forget("dataset")
        name = pick(
            "Dataset",
            names,
            "dataset",
            default=default,
            resets=("run", "video", "at", "subset", "classes", "thresholds"),
            place=place,
            help="Every dataset of this workspace.",
        )
        return load_dataset(name)


def run_title(run: training_runs.Run) -> str:
    """``run_id · method · state``: how a run is named in every picker."""
    with guard(stop=False):
        return f"{run.run_id} · {run.config()['model']} · {run.status()['state']}"
    return run.run_id


def runs_of(dataset: str | None = None, *, with_detections: bool = False) -> list[training_runs.Run]:
    """Runs, newest first; of one dataset, or only those that have detections to look at."""
    found = []
    for run in training_runs.list_runs(home()):
        try:
            if dataset is not None and run.config()["dataset"] != dataset:
                continue
        except InputError:
            continue
        if not with_detections or (run.folder / "detections.json").exists():
            found.append(run)
    return found


def pick_runs(dataset: str, *, place: Any = None, label: str = "Runs") -> list[training_runs.Run]:
    """A multiselect of the dataset's runs that have detections; the newest at first."""
    runs = {run.run_id: run for run in runs_of(dataset, with_detections=True)}
    chosen = pick(
        label,
        list(runs),
        "run",
        default=list(runs)[:1],
        kind="multiselect",
        place=place,
        format_func=lambda run_id: run_title(runs[run_id]),
        help="Runs trained on this dataset that have detections.",
    )
    return [runs[run_id] for run_id in chosen]


def link(page: str, label: str, *, icon: str | None = None, **query: Any) -> None:
    """A link to another page that carries what is chosen, such as ``dataset`` or ``run``."""
    parameters = {key: str(value) for key, value in query.items() if value is not None}
    st.page_link(PAGES[page], label=label, icon=icon, query_params=parameters or None)


def link_to_timeline(dataset: str, runs: Sequence[str], subset: str | None) -> None:
    """Where detections can be looked at that can't be measured, for want of ground truth."""
    if runs:
        label = "Look at the detections on the timeline"
        query = {"dataset": dataset, "run": runs[0], "subset": subset}
        link("timeline", label, icon=":material/view_timeline:", **query)


# ---------------------------------------------------------------- words for numbers


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent, the way the field's tables print mAP: 0.553 -> "55.3 %"."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def tiou_text(tiou: Sequence[float]) -> str:
    """Names a set of thresholds: "tIoU 0.5", "tIoU 0.3:0.1:0.7" (first:step:last) or all of them."""
    tiou = [float(t) for t in tiou]
    steps = [b - a for a, b in itertools.pairwise(tiou)]
    if len(tiou) > 2 and all(math.isclose(step, steps[0], abs_tol=1e-6) for step in steps):
        return f"tIoU {tiou[0]:g}:{steps[0]:.3g}:{tiou[-1]:g}"
    return "tIoU " + ", ".join(f"{t:g}" for t in tiou)


def seconds_text(seconds: float | None) -> str:
    """A length of time for people: "4.2 s", "3 min 12 s", "2 h 5 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def number(value: float) -> str:
    """A count with thin spaces between thousands: 19 228."""
    return f"{value:,.0f}".replace(",", "\u202f")


def header(title: str, lead: str) -> None:
    """The page's title and one sentence on what is done here. Every page begins with it.

    Until ``st.navigation`` has run once, Streamlit takes the folder ``pages`` for its older kind of app: a
    link right to a page, opened first after the start, bypasses ``app.py``. Then this goes through it.
    """
    main = Path(getattr(sys.modules["__main__"], "__file__", ""))
    if main.name == "app.py" and "navigated" not in st.session_state:
        runpy.run_path(str(main), run_name="__main__")
        st.stop()
    st.title(title, anchor=False)
    st.markdown(lead)
