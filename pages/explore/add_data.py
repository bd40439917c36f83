"""Forms of the Explore page that make datasets: of videos, of feature files, of a bigger dataset."""

from pathlib import Path

import streamlit as st

from pages.common import address, loaders, navigation, notices, pickers, readable
from pages.explore import add_videos
from tal_core.data.benchmarks.presets import Benchmark, Convention, benchmarks, describe, find_preset
from tal_core.data.dataset import registry
from tal_core.types import InputError

OWN = "none: my own data"

TIMING = {
    "As these features are made": "preset",
    "Work it out from the files": "auto",
    "Frames between snippets (stride and fps)": "stride",
    "Seconds between snippets": "seconds",
    "Stretched: every video has the same number of snippets": "stretched",
}

LAYOUTS = {
    "Work it out": "auto",
    "TD: (time, channels)": "TD",
    "DT: (channels, time)": "DT",
}


VIDEOS, FEATURES = "From videos", "From features or another dataset"


def show() -> None:
    """Choose what there is, then its form."""
    way = address.pick(
        "Make it", [VIDEOS, FEATURES], "make", kind="segmented_control", required=True,
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


def register(timing: str, preset: str) -> None:
    """Fields for the files and the time grid."""
    name = st.text_input("Name", placeholder="thumos14", key="add_name")
    annotations = st.text_input(
        "Annotations",
        placeholder="/data/thumos14/annotations.json",
        key="add_annotations",
        help=add_videos.LABELS,
    )
    features = st.text_area(
        "Feature folders, one per line",
        placeholder="/data/thumos14/i3d",
        key="add_features",
        height=90,
        help=".npy, .npz, .pt, .h5 or .csv named after the videos. Two folders (rgb, flow) are concatenated.",
    )
    videos = st.text_input("Video folder (optional)", help="Only to watch the videos beside their segments.")
    grid = timing_fields(timing)
    with st.expander("More", icon=":material/tune:"):
        more = other_fields()
    if st.form_submit_button("Register", type="primary", icon=":material/add:"):
        folders = [Path(line.strip()) for line in features.splitlines() if line.strip()]
        with notices.guard(stop=False):
            needed = {"name": name, "annotation file": annotations, "feature folder": folders}
            for what, value in needed.items():
                if not value:
                    raise InputError(f"the {what} is missing", hint="Fill in the field.")
            with notices.progress("Registering") as report:
                entry = registry.add_dataset(
                    loaders.home(),
                    name.strip(),
                    annotations=Path(annotations.strip()),
                    features=folders,
                    preset=preset,
                    videos=Path(videos.strip()) if videos.strip() else None,
                    progress=report,
                    **grid,
                    **more,
                )
            finish(entry)


def timing_fields(timing: str) -> dict:
    """Arguments of ``add_dataset`` that say how features run in time."""
    if timing == "preset":
        return {
            "fps": st.number_input(
                "Frames per second, if other than these features have",
                min_value=0.0,
                value=None,
                format="%g",
                placeholder="as usual",
            )
        }
    if timing == "stride":
        stride = st.number_input("Stride (frames between snippets)", min_value=0.0, value=16.0, format="%g")
        fps = st.number_input(
            "Frames per second", min_value=0.0, value=None, format="%g", placeholder="as the annotations say"
        )
        return {"stride": stride, "fps": fps}
    if timing == "seconds":
        return {"snippet_seconds": st.number_input("Seconds", min_value=0.0, value=1.0, format="%g")}
    return {"timing": "stretched"} if timing == "stretched" else {}


def other_fields() -> dict:
    """Arguments of ``add_dataset`` that it works out by itself where it can."""
    layout = st.selectbox("Layout of the feature files", list(LAYOUTS), key="add_layout")
    training = st.text_input("Training subset", placeholder="named training, or split off")
    evaluating = st.text_input("Evaluation subset", placeholder="named testing, test or validation")
    blocked = st.text_input(
        "Blocked videos (optional)",
        help="A list of videos to leave out, such as those of ActivityNet that can't be had any more: JSON, "
        "or text with one id a line. They are in neither the ground truth nor the detections.",
    )
    info = st.text_input("Durations and fps (optional)", help="A table of videos, for THUMOS14 text folders.")
    scores = st.text_input(
        "Video-level class scores (optional)",
        help="A .json, .npz or .npy file of another classifier; proposal methods (BSN, BMN) can use it.",
    )
    return {
        "layout": LAYOUTS[layout],
        "training_subset": training.strip(),
        "evaluation_subset": evaluating.strip(),
        "blocked": Path(blocked.strip()) if blocked.strip() else None,
        "video_info": Path(info.strip()) if info.strip() else None,
        "class_scores": Path(scores.strip()) if scores.strip() else None,
    }


def make_smaller(source) -> None:
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
    if st.form_submit_button("Make it", type="primary", icon=":material/content_cut:"):
        with notices.guard(stop=False):
            if not name.strip():
                raise InputError("the name is missing", hint="Fill in the field.")
            if videos is None and not classes:
                raise InputError(
                    "this would be the same dataset", hint="Choose a number of videos or classes."
                )
            with notices.progress("Making it") as report:
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


def finish(entry) -> None:
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
