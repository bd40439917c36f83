"""What the reference programs computed for the three pyramid methods, and our networks with their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch

from tal_core.models.pyramid import actionformer, temporalmaxer, tridet
from tal_core.models.pyramid.network import PyramidNetwork
from tal_core.models.pyramid.points import Points, points
from tal_core.models.shared.clips import collate
from tal_core.types import TimeGrid
from tests.paths import GOLDEN

FEATURES, CLASSES, LEVELS = 48, 5, range(5)
SCALES = [f"reg_head.scale.{level}.scale" for level in LEVELS]
SHARED = {
    "embed_dim": 32,
    "head_dim": 40,
    "levels": 5,
    "sequence_length": 256,
    "regression_bounds": [4, 8, 16, 32],
    "min_candidate_score": 0.02,
    "max_candidates": 60,
    "min_score": 0.03,
    "max_detections": 200,
    "voting_threshold": 0.7,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
}
INFERENCE = {
    "final": {},
    "soft_multiclass": {},
    "soft_agnostic_vote": {"nms_per_class": False},
    "soft_agnostic_novote": {"nms_per_class": False, "voting_threshold": 0.0},
    "hard_multiclass": {"nms": "hard", "nms_threshold": 0.4},
    "hard_agnostic_vote": {"nms": "hard", "nms_per_class": False, "nms_threshold": 0.4},
    "none": {"nms": "none", "min_score": 0.0, "max_detections": 100_000},
    "short_list": {"min_candidate_score": 0.05, "max_candidates": 25, "max_detections": 12},
}
TRAINING: dict[str, dict[str, Any]] = {
    "train": {},
    "alttrain_label_smoothing_0p1": {"label_smoothing": 0.1},
    "alttrain_auto_loss_weight": {"regression_weight": -1},
}
ALSO_TRAINED = {"alttrain_no_center_sampling": {"center_radius": None}, "alttrain_empty_video0": {}}


def nothing() -> tuple[np.ndarray, np.ndarray]:
    """Segments and labels of a video without ground truth."""
    return np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


def close(ours: Any, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=0, atol=tolerance)


def layer_norm_of_all_levels(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {
        f"neck.fpn_norms.{level}.{part}": torch.from_numpy(arrays[f"altnet_neck_layernorm_{part}"])
        for level in LEVELS
        for part in ("weight", "bias")
    }


@dataclass(frozen=True)
class Golden:
    """A method's case. ``networks``: settings by the prefix of the arrays; ``extra``: weights they need.

    ``read``: what is read off the heads on all cells, by the reference's name. ``gradients``: how many are
    stored whole.
    """

    module: Any
    network: type[PyramidNetwork]
    settings: dict[str, Any]
    training: dict[str, dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    gradients: int
    read: Callable[[Any, Any], dict[str, torch.Tensor]]
    extra: dict[str, Callable] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.module.METHOD.name

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / self.name / "case.npz") as file:
            return {name: file[name] for name in file.files}

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(GOLDEN / self.name / "weights.safetensors")

    def config(self, **settings: Any) -> Any:
        return self.module.METHOD.config(**{**self.settings, **settings})

    def make(self, network: str = "", **settings: Any) -> Any:
        """The network with the reference's weights and nothing random in it, its residual scales kept."""
        config = self.config(**self.networks.get(network, {}), **settings)
        model = self.network(config, FEATURES, CLASSES)
        state = self.weights | self.extra.get(network, lambda arrays: {})(self.arrays)
        missing, unexpected = model.load_state_dict(self.module.from_reference(state), strict=False)
        assert missing == ["normaliser.value"] and not unexpected
        for block in (*getattr(model, "stem", ()), *getattr(model, "branch", ())):
            if hasattr(block, "drop_path"):
                block.drop_path = 0.0
        return model

    def random(self, *, classes: int = 3, **settings: Any) -> Any:
        """A network of 7 features with large weights, so that nothing is hidden behind small ones."""
        torch.manual_seed(0)
        model = self.network(self.config(**settings), 7, classes)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        return model

    def video(self, number: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        case = self.arrays
        features = torch.from_numpy(case[f"video{number}_feats"].T.copy())
        return features, case[f"video{number}_segments_grid"], case[f"video{number}_labels"]

    def batch(self, name: str) -> dict[str, Any]:
        if name == "long":
            return collate([self.video(2)])
        first = self.video(0)
        empty = name == "alttrain_empty_video0"
        return collate([(first[0], *nothing()) if empty else first, self.video(1)])

    def grid(self, number: int) -> TimeGrid:
        case, name = self.arrays, f"video{number}"
        fps, stride = case[f"{name}_fps"], case[f"{name}_feat_stride"]
        return TimeGrid(float(stride / fps), float(0.5 * case[f"{name}_feat_num_frames"] / fps))

    def gradient(self, model: Any, name: str) -> torch.Tensor:
        """Our gradient of a reference parameter."""
        named = dict(model.named_parameters())
        if name in SCALES:
            return named["heads.scale"].grad[SCALES.index(name)]
        return named[self.translated(name)].grad

    def translated(self, name: str) -> str:
        """Our name of a reference parameter."""
        return (
            "heads.scale"
            if name in SCALES
            else next(iter(self.module.from_reference({name: torch.zeros(1)})))
        )


def inputs(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("features", "mask")}


def cells_of(cells: Any, video: int, level: int) -> torch.Tensor:
    """Rows of the valid cells of a level of a video."""
    return (cells.valid & (cells.video == video) & (cells.level == level)).nonzero().squeeze(1)


def points_of_levels(sizes: Sequence[int], ranges: Sequence[tuple[float, float]]) -> Points:
    """The points of one video whose levels have ``sizes`` cells."""
    level = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    position = torch.cat([torch.arange(size) * 2**number for number, size in enumerate(sizes)])
    return points(SimpleNamespace(level=level, position=position), ranges)


def _distances(model: Any, cells: Any) -> dict[str, torch.Tensor]:
    return {"reg_offsets": model.heads.distances(cells)}


def _trident(model: Any, cells: Any) -> dict[str, torch.Tensor]:
    boundaries = {"start_logits": model.start, "end_logits": model.end}
    read = {name: tridet.read(head, cells) for name, head in boundaries.items()}
    return read | {"reg_bins": model.heads.distances(cells)}


ACTIONFORMER = Golden(
    actionformer,
    actionformer.ActionFormer,
    SHARED | {"attention_windows": [9]},
    TRAINING | ALSO_TRAINED,
    {
        "": {},
        "altnet_abs_pe_": {"position_encoding": True},
        "altnet_global_top_": {"attention_windows": [9, 9, 9, 9, -1]},
    },
    11,
    _distances,
)
TRIDET = Golden(
    tridet,
    tridet.TriDet,
    SHARED | {"mlp_dim": 64, "drop_path": 0.0, "input_noise": 0.0, "voting_weights": "score"},
    TRAINING | ALSO_TRAINED,
    {"": {}, "altnet_abs_pe_": {"position_encoding": True}},
    12,
    _trident,
)
TEMPORALMAXER = Golden(
    temporalmaxer,
    temporalmaxer.TemporalMaxer,
    SHARED,
    TRAINING | {"alttrain_keep_half": {"keep_share": 0.5, "confuse_weight": 0.2}},
    {"": {}, "altnet_neck_layernorm_": {"neck_norm": "layernorm"}},
    9,
    _distances,
    {"altnet_neck_layernorm_": layer_norm_of_all_levels},
)
CASES = {golden.name: golden for golden in (ACTIONFORMER, TRIDET, TEMPORALMAXER)}


def every(attribute: str, cases: Mapping[str, Golden] = CASES) -> list[tuple[str, str]]:
    """Pairs of a method and a key of a table of its case."""
    return [(name, key) for name, golden in cases.items() for key in getattr(golden, attribute)]
