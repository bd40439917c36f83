"""The public benchmarks: subsets, thresholds, and how the commonly shared features run in time.

A preset of `registry.add_dataset` is a benchmark with one of its features: ``thumos14-i3d``; ``thumos14``
alone means the first. Sources name the repository and the file that each figure is from. Where authors count
a snippet's place by its clip, ``offset_frames`` is the middle of the first clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tal_core.types import InputError

ACTIONFORMER = "github.com/happyharrycn/actionformer_release, "
BMN = "github.com/JJBOY/BMN-Boundary-Matching-Network, "
LEA = "Lea et al., CVPR 2017"
MSTCN = "github.com/yabufarha/ms-tcn, "
OPENTAD = "github.com/sming256/OpenTAD, "
TRIDET = "github.com/dingfengshi/TriDet, "


@dataclass(frozen=True)
class Convention:
    """How one commonly shared set of features was made.

    ``stride``: frames between snippets. ``fps``: of the videos they were made from, ``None`` where each
    video has its own (in the annotations). ``offset_frames``: the middle of the first snippet.
    ``stretched``: the snippets of a video are spread over its duration, whatever its frame rate.
    ``settings``: published settings for them, as pairs of method and preset.
    """

    title: str
    source: str
    stride: float | None = None
    fps: float | None = None
    offset_frames: float | None = None
    stretched: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    def timing(self) -> dict[str, float | str]:
        """The fields of a dataset's entry that say this."""
        if self.stretched:
            return {"timing": "stretched"}
        fields = {"stride": self.stride, "fps": self.fps, "offset_frames": self.offset_frames}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark evaluates.

    ``subsets``: pairs of training and evaluation subset, as its various annotation files call them; the first
    that a file has counts. ``tiou``: its thresholds; of evenly spaced ones the numbers that its programs
    make.
    """

    title: str
    subsets: tuple[tuple[str, str], ...]
    tiou: list[float]
    source: str
    features: Mapping[str, Convention] = field(default_factory=dict)
    note: str = ""


_TO_ACTIVITYNET = np.linspace(0.5, 0.95, 10).tolist()
_TO_HALF = np.linspace(0.1, 0.5, 5).tolist()
_TO_NINE_TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
_THUMOS = (("validation", "test"), ("validation", "testing"), ("training", "validation"))
_USUAL = (("training", "validation"), ("train", "val"))
_BASE = OPENTAD + "configs/_base_/datasets/"
_I3D_16_4 = {"stride": 4, "offset_frames": 8}

BENCHMARKS: dict[str, Benchmark] = {
    "thumos14": Benchmark(
        "THUMOS14",
        _THUMOS,
        np.linspace(0.3, 0.7, 5).tolist(),
        ACTIONFORMER + "libs/datasets/thumos14.py",
        {
            "i3d": Convention(
                "I3D, RGB and flow (2048 channels), clips of 16 frames",
                ACTIONFORMER + "configs/thumos_i3d.yaml",
                **_I3D_16_4,
                settings=(
                    ("actionformer", "thumos14"),
                    ("tridet", "thumos14"),
                    ("temporalmaxer", "thumos14"),
                    ("bmn", "thumos14"),
                ),
            ),
            "tsn": Convention(
                "TSN of G-TAD, RGB and flow, one snippet per frame",
                _BASE + "thumos-14/features_tsn_sw.py",
                stride=1,
                offset_frames=0,
            ),
            "internvideo2": Convention(
                "InternVideo2-6B, clips of 16 frames",
                OPENTAD + "configs/videomambasuite/thumos_internvideo6b.py",
                **_I3D_16_4,
            ),
        },
        "OpenTAD leaves out video_test_0000270 (its annotations are wrong); "
        "video_test_0001292 has ambiguous ones only.",
    ),
    "multithumos": Benchmark(
        "MultiTHUMOS",
        _THUMOS,
        _TO_NINE_TENTHS,
        _BASE + "multithumos/features_i3d_pad.py",
        {
            "i3d": Convention(
                "I3D as for THUMOS14 (RGB alone: 1024 channels)",
                _BASE + "multithumos/features_i3d_pad.py",
                **_I3D_16_4,
                settings=(("actionformer", "multithumos"), ("temporalmaxer", "multithumos")),
            ),
        },
    ),
    "activitynet": Benchmark(
        "ActivityNet-1.3",
        _USUAL,
        _TO_ACTIVITYNET,
        ACTIONFORMER + "libs/datasets/anet.py",
        {
            "tsp": Convention(
                "TSP, R(2+1)D-34 (512 channels), clips of 16 frames at 15 fps",
                ACTIONFORMER + "configs/anet_tsp.yaml",
                stride=16,
                fps=15,
                offset_frames=8,
                settings=(("actionformer", "activitynet"), ("tridet", "activitynet")),
            ),
            "i3d": Convention(
                "I3D, RGB and flow (2048 channels), clips of 16 frames at 25 fps",
                ACTIONFORMER + "configs/anet_i3d.yaml",
                stride=16,
                fps=25,
                offset_frames=8,
            ),
            "tsn-100": Convention(
                "TSN class scores (400 channels), rescaled to 100 snippets a video",
                BMN + "opts.py",
                stretched=True,
                settings=(("bmn", "activitynet"), ("bsn", "activitynet")),
            ),
        },
        "Proposals usually get their classes from video-level scores (--class-scores). OpenTAD leaves videos "
        "that can't be had any more out of evaluation (--blocked): 4728 validation videos remain.",
    ),
    "hacs": Benchmark(
        "HACS Segments 1.1.1",
        _USUAL,
        _TO_ACTIVITYNET,
        TRIDET + "libs/datasets/hacs.py",
        {
            "slowfast": Convention(
                "SlowFast-101 of TCANet (2304 channels), clips of 32 frames at 15 fps",
                TRIDET + "configs/hacs_slowfast.yaml",
                stride=8,
                fps=15,
                offset_frames=16,
                settings=(("actionformer", "hacs"), ("tridet", "hacs"), ("bmn", "hacs")),
            ),
            "i3d": Convention(
                "I3D (2048 channels), two snippets a second",
                TRIDET + "configs/hacs_i3d.yaml",
                stride=1,
                fps=2,
                offset_frames=0.5,
                settings=(("tridet", "hacs-i3d"),),
            ),
        },
    ),
    "epic-kitchens-100": Benchmark(
        "EPIC-Kitchens-100",
        _USUAL,
        _TO_HALF,
        ACTIONFORMER + "libs/datasets/epic_kitchens.py",
        {
            "slowfast": Convention(
                "SlowFast tuned on EPIC (2304 channels), clips of 32 frames at 30 fps",
                ACTIONFORMER + "configs/epic_slowfast_noun.yaml",
                stride=16,
                fps=30,
                offset_frames=16,
                settings=tuple(
                    (method, f"epic-{task}")
                    for method in ("actionformer", "tridet", "temporalmaxer")
                    for task in ("noun", "verb")
                ),
            ),
            "internvideo2": Convention(
                "InternVideo2-1B or VideoMAE-L tuned on EPIC, clips of 16 frames at 30 fps",
                _BASE + "epic_kitchens-100/features_internvideo2_noun_train_trunc_test_sw_s8_pad4608.py",
                stride=8,
                fps=30,
                offset_frames=4,
            ),
        },
        "Nouns and verbs are two tasks with an annotation file each.",
    ),
    "ego4d-mq": Benchmark(
        "Ego4D Moment Queries",
        _USUAL,
        _TO_HALF,
        ACTIONFORMER + "libs/datasets/ego4d.py",
        {
            "slowfast": Convention(
                "SlowFast (2304 channels), clips of 32 frames at 30 fps",
                ACTIONFORMER + "configs/ego4d_slowfast.yaml",
                stride=16,
                fps=30,
                offset_frames=16,
                settings=(("actionformer", "ego4d"),),
            ),
            "egovlp": Convention(
                "EgoVLP (256 channels), clips of 16 frames at 30 fps",
                ACTIONFORMER + "configs/ego4d_egovlp.yaml",
                stride=16,
                fps=30,
                offset_frames=8,
                settings=(("actionformer", "ego4d-egovlp"),),
            ),
            "omnivore-egovlp": Convention(
                "Omnivore (1536 channels) and EgoVLP, in this order, clips of 32 frames at 30 fps",
                ACTIONFORMER + "configs/ego4d_omnivore_egovlp.yaml",
                stride=16,
                fps=30,
                offset_frames=16,
                settings=(("actionformer", "ego4d-omnivore-egovlp"),),
            ),
            "internvideo": Convention(
                "InternVideo1 or 2, clips of 16 frames at 30 fps",
                _BASE + "ego4d_mq/features_internvideo_train_trunc_test_sw_2048_s8.py",
                stride=8,
                fps=30,
                offset_frames=4,
            ),
        },
    ),
    "charades": Benchmark(
        "Charades",
        (("training", "testing"), ("train", "test")),
        _TO_NINE_TENTHS,
        _BASE + "charades/features_i3d_pad.py",
        {
            "i3d": Convention(
                "I3D tuned on Charades, RGB, at 24 fps",
                _BASE + "charades/features_i3d_pad.py",
                stride=8,
                fps=24,
                offset_frames=0,
                settings=(("actionformer", "charades"),),
            ),
            "videomae": Convention(
                "VideoMAE-L tuned on Charades, clips of 16 frames at 30 fps",
                _BASE + "charades/features_videomae_train_trunc_test_sw_s4.py",
                stride=4,
                fps=30,
                offset_frames=2,
            ),
        },
    ),
    "fineaction": Benchmark(
        "FineAction",
        _USUAL,
        _TO_ACTIVITYNET,
        _BASE + "fineaction/features_internvideo_pad.py",
        {
            "videomae": Convention(
                "VideoMAE-H (1280 channels), clips of 16 frames",
                _BASE + "fineaction/features_internvideo_resize_trunc.py",
                stretched=True,
                settings=(("actionformer", "fineaction"),),
            ),
            "videomaev2": Convention(
                "VideoMAEv2-g (1408 channels), clips of 16 frames at 30 fps",
                OPENTAD + "configs/dyfadet/fineaction_videomaev2_g.py",
                stride=16,
                fps=30,
                offset_frames=8,
            ),
            "internvideo2": Convention(
                "InternVideo2-1B, clips of 16 frames at 30 fps",
                OPENTAD + "configs/videomambasuite/fineaction_internvideo1b.py",
                stride=4,
                fps=30,
                offset_frames=8,
            ),
        },
        "Proposals usually get their classes from video-level scores (--class-scores).",
    ),
    "50salads": Benchmark(
        "50 Salads",
        (("training", "testing"), ("train", "test")),
        [0.1, 0.25, 0.5],
        f"{LEA}: overlaps of its segmental F1",
        {
            "i3d": Convention(
                "I3D, RGB and flow (2048 channels), one snippet per frame at 30 fps",
                MSTCN + "main.py",
                stride=1,
                fps=30,
                offset_frames=0.5,
            ),
            "cnn": Convention(
                "class scores of a video CNN and SVM (18 channels), one a second",
                "github.com/colincsl/TemporalConvolutionalNetworks",
                stride=1,
                fps=1,
                offset_frames=0.5,
            ),
        },
        "Published figures are means over five splits: make a dataset of each.",
    ),
}


def preset_names() -> list[str]:
    """Every preset, ``<benchmark>-<features>``."""
    return [f"{name}-{key}" for name, benchmark in BENCHMARKS.items() for key in benchmark.features]


def find_preset(name: str) -> tuple[Benchmark, Convention]:
    """A benchmark and its features; by the benchmark's name alone its first ones.

    Raises:
        InputError: for an unknown name.
    """
    for key, benchmark in BENCHMARKS.items():
        for features, convention in benchmark.features.items():
            if name in (key, f"{key}-{features}"):
                return benchmark, convention
    hint = f"Use one of {', '.join(BENCHMARKS)}, or with features: python -m tal_core datasets presets."
    raise InputError(f"there is no benchmark {name!r}", hint=hint)


def describe(convention: Convention) -> str:
    """How features run in time, in words."""
    if convention.stretched:
        return "spread over each video"
    fps = f"{convention.fps:g} fps" if convention.fps else "the video's fps"
    return f"stride {convention.stride:g} at {fps}, first centre at frame {convention.offset_frames:g}"
