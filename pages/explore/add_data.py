"""Forms of the Explore page that make datasets: of videos, of feature files, of a bigger dataset."""

from dataclasses import replace
from typing import Any

import streamlit as st

from pages.common import address, loaders, navigation, notices, pickers, readable
from pages.common.schema_form import field_widget
from pages.explore import add_videos
from tal_core.data.benchmarks.presets import Benchmark, Convention, benchmarks, describe, find_preset
from tal_core.data.dataset import registry
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.dataset.entry import DatasetEntry
from tal_core.schema import fields_of
from tal_core.types import InputError

OWN = "none: my own data"

TIMING = {
    "As these features are made": "preset",
    "Work it out from the files": "auto",
    "Frames between snippets (stride and fps)": "stride",
    "Seconds between snippets": "seconds",
    "Stretched: every video has the same number of snippets": "stretched",
}

ENTRY = {field.name: field for field in fields_of(DatasetEntry)}

VIDEOS, FEATURES = "From videos", "From features or another dataset"
FEATURES_HELP = (
    ".npy, .npz, .pt, .h5 or .csv named after the videos. Two folders (rgb, flow) are concatenated."
)
VIDEOS_HELP = "Only to watch the videos beside their segments."

MORE = {
    "layout": ("Layout of the feature files", None, "TD: (time, channels). DT: (channels, time)."),
    "training_subset": ("Training subset", "named training, or split off", ""),
    "evaluation_subset": ("Evaluation subset", "named testing, test or validation", ""),
    "blocked": (
        "Blocked videos (optional)",
        None,
        "A list of videos to leave out, such as those of ActivityNet that can't be had any more: JSON, "
        "or text with one id a line. They are in neither the ground truth nor the detections.",
    ),
    "video_info": (
        "Durations and fps (optional)",
        None,
        "A table of videos, for THUMOS14 text folders.",
    ),
    "class_scores": (
        "Video class scores (optional)",
        None,
        "A .json, .npz or .npy file of another classifier; proposal methods (BSN, BMN) can use it.",
    ),
}
"""Fields of the expander: label, placeholder and help, where the field's own is too short for a form."""


def show() -> None:
    """Choose what there is, then its form."""
    way = address.pick(
        "Start from", [VIDEOS, FEATURES], "make", kind="segmented_control", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    if way == VIDEOS:
        add_videos.show()
    else:
        show_registering()


def show_registering() -> None:
    """Register files, or draw a smaller dataset: side by side."""
    left, right = st.columns(2)
    with left:
        st.subheader("Register a dataset", anchor=False)
        st.caption("Files stay where they are; paths are on the machine that runs the studio.")
        preset = pick_preset()
        ways = list(TIMING) if preset else list(TIMING)[1:]
        timing = st.selectbox("Where snippets lie in time", ways, key="add_timing")
        with st.form("add_dataset"):
            register(TIMING[timing], preset)
    with right:
        st.subheader("Make a smaller dataset", anchor=False)
        st.caption("A few videos or classes of a bigger one, to try things quickly. Features are shared.")
        source = pickers.pick_dataset()
        with st.form("make_subset"):
            make_smaller(source)


def pick_preset() -> str:
    """A benchmark with one of its features, as `add_dataset` names it; ``""`` for one's own data."""
    names = [OWN, *benchmarks()]
    left, right = st.columns(2)
    name = left.selectbox(
        "Benchmark",
        names,
        format_func=lambda name: benchmarks()[name].title if name in benchmarks() else name,
        key="add_benchmark",
        help="Sets what isn't filled in below: subsets, tIoU thresholds, and where snippets lie in time.",
    )
    if name == OWN:
        return ""
    benchmark = benchmarks()[name]
    features = right.selectbox(
        "Features", list(benchmark.features), key=f"add_features_of:{name}", help="The commonly shared ones."
    )
    explain(benchmark, benchmark.features[features])
    return f"{name}-{features}"


def explain(benchmark: Benchmark, convention: Convention) -> None:
    """What a preset sets, and where it is from."""
    subsets = " or ".join(f"{train} / {test}" for train, test in benchmark.subsets)
    st.caption(
        f"{convention.title}: {describe(convention)} (source: {convention.source}). Trains / evaluates on "
        f"{subsets}, {readable.tiou_text(benchmark.tiou)}. {benchmark.note}"
    )


def register(timing: str, benchmark: str) -> None:
    """Fields for the files and the time grid."""
    name = st.text_input("Name", placeholder="thumos14", key="add_name").strip()
    fields: dict[str, Any] = {
        "benchmark": benchmark,
        "annotations": entry_field(
            "annotations", placeholder="/data/thumos14/annotations.json", help=add_videos.LABELS
        ),
        "features": entry_field("features", "Feature folders", "/data/thumos14/i3d", help=FEATURES_HELP),
        "videos": entry_field("videos", "Video folder (optional)", help=VIDEOS_HELP),
        **timing_fields(timing),
    }
    with st.expander("More", icon=":material/tune:"):
        for field, (label, placeholder, text) in MORE.items():
            fields[field] = entry_field(field, label, placeholder, **({"help": text} if text else {}))
    if st.form_submit_button("Register", type="primary", icon=":material/add:"):
        with notices.guard(stop=False):
            with notices.progress("Registering") as report:
                entry = registry.add_dataset(loaders.home(), name, progress=report, **fields)
            finish(entry)


def entry_field(name: str, label: str = "", placeholder: str | None = None, **changes: Any) -> Any:
    """The widget of one of a dataset's fields, which may have another default or help here."""
    field = replace(ENTRY[name], **changes)
    return field_widget(field, f"add_{name}", label=label, placeholder=placeholder)


def timing_fields(timing: str) -> dict[str, Any]:
    """Fields that say how features run in time."""
    if timing == "preset":
        return {"fps": entry_field("fps", "Frames per second, if other than these features have", "as usual")}
    if timing == "stride":
        return {
            "stride": entry_field("stride", "Stride (frames between snippets)", default=16.0),
            "fps": entry_field("fps", "Frames per second", "as the annotations say"),
        }
    if timing == "seconds":
        return {"snippet_seconds": entry_field("snippet_seconds", "Seconds", default=1.0)}
    return {"timing": "stretched"} if timing == "stretched" else {}


def make_smaller(source: Dataset) -> None:
    """Fields for the size and the classes."""
    name = st.text_input("Name", placeholder=f"{source.name}-small", key="small_name")
    usable = len(source.videos())
    videos = st.number_input(
        "Videos",
        min_value=1,
        key="small_videos",
        max_value=max(1, usable),
        value=None,
        step=1,
        placeholder=f"all {usable} usable",
    )
    classes = st.multiselect("Classes", source.labels, placeholder=f"all {len(source.labels)}")
    seed = st.number_input("Seed of the draw", min_value=0, value=0, step=1, help="Same seed, same videos.")
    if st.form_submit_button("Make the dataset", type="primary", icon=":material/content_cut:"):
        with notices.guard(stop=False):
            if videos is None and not classes:
                raise InputError(
                    "this would be the same dataset", hint="Choose a number of videos or classes."
                )
            with notices.progress("Making the dataset") as report:
                entry = registry.make_subset(
                    loaders.home(),
                    source.name,
                    name.strip(),
                    videos=videos,
                    classes=classes or None,
                    seed=seed,
                    progress=report,
                )
            finish(entry)


def finish(entry: DatasetEntry) -> None:
    """Say what was made, and lead on."""
    data = loaders.load_dataset(entry.name)
    st.success(f"Dataset **{entry.name}** is ready: {len(data.index)} videos, {len(data.labels)} classes.")
    for text in data.entry.derived:
        st.caption(f"Worked out: {text}")
    if data.entry.benchmark:
        settings = [f"{method}: {preset}" for method, preset in find_preset(data.entry.benchmark)[1].settings]
        st.caption(f"Presets with published settings: {', '.join(settings) or 'none; auto suits it'}.")
    navigation.link("explore", "Explore it", icon=":material/insights:", dataset=entry.name, view="Dataset")
    navigation.link("train", "Train on it", icon=":material/model_training:", dataset=entry.name)
