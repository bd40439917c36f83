"""Published hyper-parameters, by method and dataset, under the names of our settings.

What a repository has and a method here doesn't (a floor of the learning rate, steps instead of a cosine) is
left out. Class-agnostic configs need a dataset with class scores of whole videos; classes=all learns the
classes instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTIONFORMER = "github.com/happyharrycn/actionformer_release, configs/"
TRIDET = "github.com/dingfengshi/TriDet, configs/"
TEMPORALMAXER = "github.com/TuanTNG/TemporalMaxer, configs/"
OPENTAD = "github.com/sming256/OpenTAD, configs/"
BMN = "github.com/JJBOY/BMN-Boundary-Matching-Network, "
BSN = "github.com/wzmsltw/BSN-boundary-sensitive-network.pytorch, "
SSN = "github.com/yjxiong/action-detection, "
MINIROAD = "github.com/jbistanbul/MiniROAD, configs/"


@dataclass(frozen=True)
class Preset:
    """Settings that a repository publishes. ``source`` names the repository and its config file."""

    title: str
    source: str
    settings: Mapping[str, Any]


def _doubling(levels: int) -> list[float]:
    """4, 8, 16, ...: the regression bounds of every published pyramid."""
    return [4.0 * 2**level for level in range(levels - 1)]


_PYRAMID = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "gradient_clip": 1.0,
    "ema_decay": 0.999,
    "learning_rate": 1e-4,
    "batch_size": 2,
    "initial_normaliser": 100.0,
    "levels": 6,
    "regression_bounds": _doubling(6),
    "sequence_length": 2304,
    "crop_low": 0.9,
    "crop_high": 1.0,
    "min_overlap": 0.5,
    "embed_dim": 512,
    "head_dim": 512,
    "center_radius": 1.5,
    "nms": "soft",
    "nms_sigma": 0.5,
    "nms_per_class": True,
    "min_score": 0.001,
    "max_candidates": 2000,
    "max_detections": 200,
}
_EPIC = _PYRAMID | {
    "range_overlap": 2.0,
    "min_overlap": 0.3,
    "initial_normaliser": 250.0,
    "nms_sigma": 0.4,
    "max_candidates": 5000,
    "max_detections": 2000,
}
# OpenTAD's program, and what its voting does otherwise than ActionFormer's authors'.
_OPENTAD = {"program": "opentad", "voting_weights": "score"}


def _proposals(classes: int, fusion: str) -> dict[str, Any]:
    """One class, action; each proposal takes so many of the video's best classes."""
    return {"classes": "agnostic", "classes_per_proposal": classes, "score_fusion": fusion}


_ACTIVITYNET = _PYRAMID | {
    "epochs": 15,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "label_smoothing": 0.1,
    "regression_weight": 2.0,
    "initial_normaliser": 200.0,
    "embed_dim": 256,
    "head_dim": 256,
    "sequence_length": 192,
    "resize": 192,
    "position_encoding": True,
    "attention_windows": [7, 7, 7, 7, 7, -1],
    "nms_sigma": 0.75,
    "nms_per_class": False,
    "voting_threshold": 0.9,
    "max_detections": 100,
}
_EGO4D = _PYRAMID | {
    "epochs": 15,
    "levels": 7,
    "regression_bounds": _doubling(7),
    "range_overlap": 2.0,
    "min_overlap": 0.3,
    "sequence_length": 1024,
    "attention_windows": [9],
    "position_encoding": True,
    "dropout": 0.1,
    "nms_sigma": 0.9,
    "max_candidates": 5000,
    "max_detections": 2000,
}
_EGO4D_LONG = {"levels": 8, "regression_bounds": _doubling(8)}

_ACTIONFORMER = {
    "thumos14": Preset(
        "THUMOS14, I3D features",
        ACTIONFORMER + "thumos_i3d.yaml",
        _PYRAMID | {"epochs": 35, "attention_windows": [19]},
    ),
    "activitynet": Preset(
        "ActivityNet-1.3, TSP features; proposals, classes from video-level scores",
        ACTIONFORMER + "anet_tsp.yaml",
        _ACTIVITYNET | _proposals(2, "root") | {"min_length": 0.001},
    ),
    "epic-noun": Preset(
        "EPIC-Kitchens-100 nouns, SlowFast features",
        ACTIONFORMER + "epic_slowfast_noun.yaml",
        _EPIC | {"epochs": 21, "attention_windows": [9], "label_smoothing": 0.1},
    ),
    "epic-verb": Preset(
        "EPIC-Kitchens-100 verbs, SlowFast features",
        ACTIONFORMER + "epic_slowfast_verb.yaml",
        _EPIC | {"epochs": 21, "attention_windows": [9]},
    ),
    "ego4d": Preset("Ego4D, SlowFast features", ACTIONFORMER + "ego4d_slowfast.yaml", _EGO4D),
    "ego4d-egovlp": Preset(
        "Ego4D, EgoVLP features",
        ACTIONFORMER + "ego4d_egovlp.yaml",
        _EGO4D | _EGO4D_LONG | {"embed_dim": 384, "head_dim": 384},
    ),
    "ego4d-omnivore-egovlp": Preset(
        "Ego4D, Omnivore and EgoVLP features",
        ACTIONFORMER + "ego4d_omnivore_egovlp.yaml",
        _EGO4D | _EGO4D_LONG | {"embed_dim": 768, "head_dim": 768, "attention_heads": 12},
    ),
    "multithumos": Preset(
        "MultiTHUMOS, I3D features",
        OPENTAD + "actionformer/multithumos_i3d.py",
        _PYRAMID
        | _OPENTAD
        | {"epochs": 65, "embed_layers": 3, "stem_blocks": 0, "max_candidates": 8000, "max_detections": 8000},
    ),
    "hacs": Preset(
        "HACS, SlowFast features; proposals, classes from video-level scores",
        OPENTAD + "actionformer/hacs_slowfast.py",
        _PYRAMID
        | _OPENTAD
        | _proposals(3, "product")
        | {
            "input_dropout": 0.1,
            "min_candidate_score": 0.0,
            "epochs": 15,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 0.03,
            "label_smoothing": 0.1,
            "initial_normaliser": 400.0,
            "embed_dim": 256,
            "head_dim": 256,
            "sequence_length": 960,
            "position_encoding": True,
            "attention_windows": [13, 13, 13, 13, 13, -1],
            "nms_sigma": 0.75,
            "max_detections": 100,
        },
    ),
    "charades": Preset(
        "Charades, I3D features",
        OPENTAD + "actionformer/charades_i3d_rgb.py",
        _PYRAMID
        | _OPENTAD
        | {
            "input_dropout": 0.3,
            "epochs": 20,
            "batch_size": 16,
            "levels": 7,
            "regression_bounds": _doubling(7),
            "sequence_length": 768,
            "position_encoding": True,
            "attention_windows": [-1],
            "nms_sigma": 0.3,
            "max_detections": 1000,
        },
    ),
    "fineaction": Preset(
        "FineAction, VideoMAE-H features; proposals, classes from video-level scores",
        OPENTAD + "actionformer/fineaction_videomae_h.py",
        _ACTIVITYNET | _OPENTAD | _proposals(2, "root") | {"epochs": 20, "min_candidate_score": 0.0},
    ),
}

_TRIDET_HACS = {
    "batch_size": 16,
    "learning_rate": 1e-3,
    "weight_decay": 0.03,
    "label_smoothing": 0.1,
    "initial_normaliser": 400.0,
    "embed_dim": 1024,
    "head_dim": 1024,
    "mlp_dim": 1024,
    "kernel_size": 5,
    "boundary_kernel_size": 1,
    "position_encoding": True,
    "iou_power": 1.0,
    "window_factor": 1.2,
    "sgp_init": 0.1,
    "nms_sigma": 0.75,
    "max_detections": 250,
}
_TRIDET = {
    "thumos14": Preset(
        "THUMOS14, I3D features",
        TRIDET + "thumos_i3d.yaml",
        _PYRAMID
        | {
            "epochs": 40,
            "warmup_epochs": 20.0,
            "weight_decay": 0.025,
            "window": 1,
            "window_factor": 5.0,
            "sgp_init": 0.0,
            "bins": 16,
            "iou_power": 0.2,
            "mlp_dim": 768,
            "input_noise": 0.0005,
            "max_detections": 2000,
        },
    ),
    "activitynet": Preset(
        "ActivityNet-1.3, TSP features; proposals, classes from video-level scores",
        TRIDET + "anet_tsp.yaml",
        _PYRAMID
        | _proposals(2, "root")
        | {
            "epochs": 15,
            "warmup_epochs": 10.0,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 0.04,
            "gradient_clip": 0.4,
            "label_smoothing": 0.1,
            "initial_normaliser": 400.0,
            "embed_dim": 256,
            "head_dim": 512,
            "mlp_dim": 2048,
            "sequence_length": 768,
            "window": 15,
            "window_factor": 1.3,
            "sgp_init": 0.2,
            "bins": 12,
            "iou_power": 1.0,
            "input_noise": 0.5,
            "position_encoding": True,
            "nms_sigma": 0.7,
            "nms_per_class": False,
            "voting_threshold": 0.95,
            "voting_weights": "score",
            "min_length": 0.1,
        },
    ),
    "epic-noun": Preset(
        "EPIC-Kitchens-100 nouns, SlowFast features",
        TRIDET + "epic_slowfast_noun.yaml",
        _EPIC
        | {"epochs": 19, "label_smoothing": 0.1, "window": 1, "window_factor": 4.0}
        | {"sgp_init": 0.0, "bins": 16, "iou_power": 0.25, "mlp_dim": 1024, "input_noise": 0.0},
    ),
    "epic-verb": Preset(
        "EPIC-Kitchens-100 verbs, SlowFast features",
        TRIDET + "epic_slowfast_verb.yaml",
        _EPIC
        | {"epochs": 27, "window": 5, "window_factor": 2.0}
        | {"sgp_init": 0.0, "bins": 16, "iou_power": 0.25, "mlp_dim": 1024, "input_noise": 0.0},
    ),
    "hacs": Preset(
        "HACS, SlowFast features",
        TRIDET + "hacs_slowfast.yaml",
        _PYRAMID
        | _TRIDET_HACS
        | {"epochs": 11, "warmup_epochs": 7.0, "gradient_clip": 0.5, "sequence_length": 960}
        | {"window": 3, "bins": 14, "input_noise": 0.2},
    ),
    "hacs-i3d": Preset(
        "HACS, I3D features",
        TRIDET + "hacs_i3d.yaml",
        _PYRAMID
        | _TRIDET_HACS
        | {"epochs": 13, "warmup_epochs": 10.0, "sequence_length": 512}
        | {"levels": 7, "regression_bounds": _doubling(7), "window": 15, "bins": 12, "input_noise": 0.0},
    ),
}

_TEMPORALMAXER = {
    "thumos14": Preset(
        "THUMOS14, I3D features",
        TEMPORALMAXER + "temporalmaxer_thumos_i3d.yaml",
        _PYRAMID | {"epochs": 65, "neck_norm": "groupnorm"},
    ),
    "multithumos": Preset(
        "MultiTHUMOS, I3D features",
        TEMPORALMAXER + "temporalmaxer_multithumos_i3d.yaml",
        _PYRAMID
        | {"epochs": 65, "embed_layers": 3, "neck_norm": "layernorm"}
        | {"max_candidates": 3000, "max_detections": 300},
    ),
    "epic-noun": Preset(
        "EPIC-Kitchens-100 nouns, SlowFast features",
        TEMPORALMAXER + "temporalmaxer_epic_slowfast_noun.yaml",
        _EPIC | {"epochs": 37, "neck_norm": "groupnorm"},
    ),
    "epic-verb": Preset(
        "EPIC-Kitchens-100 verbs, SlowFast features",
        TEMPORALMAXER + "temporalmaxer_epic_slowfast_verb.yaml",
        _EPIC | {"epochs": 37, "neck_norm": "layernorm"},
    ),
}

_BMN_OPENTAD = {
    "optimizer": "adam",
    "weight_decay": 1e-4,
    "batch_size": 16,
    "gradient_clip": 1.0,
    "classifier": "video_scores",
    "nms": "soft",
    "nms_per_class": False,
    "voting_threshold": 0.95,
}
_BMN = {
    "activitynet": Preset(
        "ActivityNet-1.3, TSN class scores as features, 100 snippets",
        BMN + "opts.py",
        {
            "epochs": 9,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "input": "rescale",
            "length": 100,
            "samples": 32,
            "points": 3,
            "extension": 0.5,
            "propose_to_end": False,
            "proposal_nms": True,
            "nms": "none",
            "classifier": "video_scores",
        },
    ),
    "thumos14": Preset(
        "THUMOS14, I3D features, sliding windows",
        OPENTAD + "bmn/thumos_i3d.py",
        _BMN_OPENTAD
        | {
            "epochs": 8,
            "learning_rate": 1e-4,
            "input": "windows",
            "length": 128,
            "max_duration": 64,
            "min_overlap": 0.9,
            "regression_weight": 5.0,
            "nms_sigma": 0.3,
            "min_score": 0.0001,
            "max_detections": 200,
        },
    ),
    "hacs": Preset(
        "HACS, SlowFast features, 192 snippets",
        OPENTAD + "bmn/hacs_slowfast_192.py",
        _BMN_OPENTAD
        | {
            "epochs": 6,
            "learning_rate": 4e-4,
            "input": "rescale",
            "length": 192,
            "regression_weight": 5.0,
            "classes_per_proposal": 3,
            "nms_sigma": 0.5,
            "min_score": 0.001,
            "max_detections": 100,
        },
    ),
}

_BSN = {
    "activitynet": Preset(
        "ActivityNet-1.3, TSN class scores as features, 100 snippets",
        BSN + "opts.py",
        {
            "epochs": 40,
            "pem_share": 0.5,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "length": 100,
            "boundary_ratio": 0.1,
            "training_proposals": 500,
            "tem_channels": 512,
            "pem_channels": 256,
            "peak_threshold": 0.5,
            "max_pairs": 1000,
            "max_proposals": 100,
            "proposal_sigma": 0.75,
            "proposal_overlap": 0.65,
            "proposal_overlap_widest": 0.9,
            "classifier": "video_scores",
        },
    ),
}

_SSN_PAPER = {
    "epochs": 12,  # 7 as published, after 5 that make the proposals
    "proposal_share": 0.4,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "weight_decay": 5e-4,
    "completeness_weight": 0.1,
    "regression_weight": 0.1,
    "dropout": 0.8,
    "repeats": 10,
    "proposals_per_video": 8,
    "foreground_share": 1,
    "incomplete_share": 6,
    "background_share": 1,
    "foreground_iou": 0.7,
    "incomplete_iou": 0.3,
    "background_iou": 0.01,
    "background_coverage": 0.02,
    "starting_parts": [1],
    "course_parts": [1],
    "ending_parts": [1],
    "course_snippets": 5,
    "context_snippets": 2,
}
_SSN = {
    "thumos14": Preset(
        "THUMOS14, proposals of actionness grouping",
        SSN + "data/dataset_cfg.yaml",
        _SSN_PAPER | {"incomplete_overlap": 0.01, "first_nms": 0.2, "max_candidates": 2000},
    ),
    "activitynet": Preset(
        "ActivityNet-1.2, proposals of actionness grouping",
        SSN + "data/dataset_cfg.yaml",
        _SSN_PAPER | {"incomplete_overlap": 0.7, "first_nms": 0.6, "max_candidates": 60},
    ),
}

_MINIROAD_PAPER = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "embed_dim": 2048,
    "hidden_dim": 1024,
    "layers": 1,
    "dropout": 0.2,
    "normalise": False,
    "window": 128,
    "counted": 1,
}
_MINIROAD = {
    "thumos14": Preset(
        "THUMOS14 at 4 snippets a second, Kinetics features (rgb and flow)",
        MINIROAD + "miniroad_thumos_kinetics.yaml",
        _MINIROAD_PAPER | {"epochs": 10, "batch_size": 16, "window_stride": 4},
    ),
    "fineaction": Preset(
        "FineAction, I3D features (rgb and flow)",
        MINIROAD + "miniroad_fineaction_kinetics.yaml",
        _MINIROAD_PAPER | {"epochs": 5, "batch_size": 128, "window_stride": 3},
    ),
}

PRESETS: dict[str, dict[str, Preset]] = {
    "actionformer": _ACTIONFORMER,
    "tridet": _TRIDET,
    "temporalmaxer": _TEMPORALMAXER,
    "bmn": _BMN,
    "bsn": _BSN,
    "ssn": _SSN,
    "miniroad": _MINIROAD,
}


def presets(method: str) -> dict[str, Preset]:
    """The published presets of a method, by name."""
    return PRESETS.get(method, {})
