"""What the anchor-free pyramid methods share: settings and layers of ActionFormer, TriDet and TemporalMaxer.

Targets, losses and decoding are in ``points``.

Every cell of a feature pyramid classifies the moment it stands for and regresses the distances to the
start and the end of the action around it (Zhang et al., ActionFormer, ECCV 2022, section 3):

    features -> embedding -> the method's own pyramid -> heads on every level -> logits, distances
    training    cells labelled by ground truth -> focal loss, distance-IoU loss
    inference   cells above a score -> scored segments = candidates

Tensors are time first, ``(B, T, C)``. Cell ``i`` of level ``l`` stands for position ``i * 2**l`` of the
feature grid. Two kinds of cells are not real. Behind the end of a video lies ``padding``: a masked
convolution writes 0 there, which the norm and the activation that follow turn into a constant that the next
convolution reads. Sequences that are joined into one are held apart by ``gap`` cells, which always read 0
as what lies outside a tensor does. Because the padding is constant, ``kernel // 2`` cells of it
do as well as any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import nn

from tal_core.models.clips import ClipSampler, resample
from tal_core.models.config import ProposerConfig, setting
from tal_core.models.convolution import Convolution, norm_relu
from tal_core.models.method import FeatureDataset
from tal_core.types import TimeGrid

MOST_CHOSEN = 0.8  # of all cells; putting more together costs more than it saves
DROP_PATH = setting(  # of the methods that have residual branches
    0.1, "Share of residual branches that are left out in training.", "Network", ge=0, lt=1
)
Program = Literal["authors", "opentad"]
PROGRAM = setting(  # of the methods that OpenTAD computes in its own way
    "authors",
    "Whose program is followed where they differ. OpenTAD's norms have another epsilon and its padding is 0"
    " behind every activation; it keeps the max_candidates best of a video, not of each level, and counts"
    " the time of resized videos from the beginning of the first snippet.",
    "Network",
)


class PyramidConfig(ProposerConfig):
    """Settings that the pyramid methods share; defaults for THUMOS14."""

    epochs: int = setting(
        35, "Passes over the training videos, warm-up included.", "Optimisation", ge=1, le=10_000
    )
    batch_size: int = setting(2, "Videos in one optimisation step.", "Optimisation", ge=1, le=1024)
    optimizer: Literal["adam", "adamw"] = setting(
        "adamw", "AdamW decays weight matrices only, apart from the gradient.", "Optimisation"
    )
    weight_decay: float = setting(0.05, "Pull of the weights towards zero.", "Optimisation", ge=0, le=1)
    schedule: Literal["constant", "cosine"] = setting(
        "cosine", "Learning rate after the warm-up: kept, or lowered along a cosine.", "Optimisation"
    )
    warmup_epochs: float = setting(
        5.0, "Epochs during which the learning rate rises linearly.", "Optimisation", ge=0, le=1000
    )
    gradient_clip: float | None = setting(
        1.0, "Largest norm of the gradient; empty for no limit.", "Optimisation", gt=0, le=1e6
    )
    ema_decay: float | None = setting(
        0.999,
        "Average the weights over steps with this decay and use the average for detection; empty for none.",
        "Optimisation",
        ge=0,
        lt=1,
    )
    label_smoothing: float = setting(
        0.0, "How far class targets are drawn towards equal chances.", "Optimisation", ge=0, lt=1
    )
    regression_weight: float = setting(
        1.0,
        "Weight of the regression loss; 0 or less makes it as large as the classification loss.",
        "Optimisation",
        ge=-1,
        le=1000,
    )
    initial_normaliser: float = setting(
        100.0,
        "First guess of the positive cells in a batch, which divides the losses; it then follows the data.",
        "Optimisation",
        gt=0,
        le=1e6,
    )

    embed_dim: int = setting(512, "Channels of the pyramid.", "Network", ge=1, le=8192)
    embed_layers: int = setting(2, "Convolutions before the pyramid.", "Network", ge=1, le=8)
    head_dim: int = setting(512, "Channels of the heads.", "Network", ge=1, le=8192)
    head_layers: int = setting(3, "Convolutions of each head, its output included.", "Network", ge=1, le=8)
    kernel_size: int = setting(3, "Taps of these convolutions; odd.", "Network", ge=1, le=31)
    levels: int = setting(
        6, "Levels of the pyramid; each halves the time resolution.", "Network", ge=1, le=12
    )
    class_prior: float = setting(
        0.01, "Score that an untrained network gives every class.", "Network", gt=0, lt=1
    )
    input_dropout: float = setting(
        0.0, "Share of each video's feature channels left out in training.", "Network", ge=0, lt=1
    )

    sequence_length: int = setting(
        2304,
        "Snippets of a training clip; longer videos are cropped. A multiple of the coarsest level's stride.",
        "Windows",
        ge=1,
        le=100_000,
    )
    crop_low: float = setting(
        0.9,
        "Training clips are cropped to a random share of their video, at least this.",
        "Windows",
        gt=0,
        le=1,
    )
    crop_high: float = setting(1.0, "At most this share; 1 and 1 for no cropping.", "Windows", gt=0, le=1)
    min_overlap: float = setting(
        0.5, "A segment belongs to a crop if this part of it is inside.", "Windows", gt=0, le=1
    )
    resize: int | None = setting(
        None,
        "Stretch or squeeze every video to so many snippets; empty to keep its own length.",
        "Windows",
        ge=1,
        le=100_000,
    )
    regression_bounds: list[Annotated[float, Field(gt=0, le=1e6)]] = setting(
        [4, 8, 16, 32, 64],
        "Farthest segment end, in snippets, that each level but the last is trained on; rising.",
        "Windows",
        max_length=11,
    )
    range_overlap: float = setting(
        1.0,
        "A level's nearest segment end is the bound before, divided by this; above 1 levels share segments.",
        "Windows",
        ge=1,
        le=100,
    )
    center_radius: float | None = setting(
        1.5,
        "Cells so near to a segment's centre, in strides of their level, are trained to detect it; empty for"
        " all inside.",
        "Windows",
        gt=0,
        le=1000,
    )

    classes: Literal["all", "agnostic"] = setting(
        "all",
        "Learn the dataset's classes; or action as one class, which makes proposals that get the classes of"
        " the dataset's class scores of whole videos.",
        "Detection",
    )
    nms_threshold: float = setting(0.1, "tIoU from which hard and linear NMS act.", "Detection", gt=0, le=1)
    max_candidates: int = setting(
        2000, "Best-scored candidates of each level that are kept before NMS.", "Detection", ge=1, le=100_000
    )
    min_candidate_score: float = setting(
        0.001, "Cells and classes with lower scores give no candidate.", "Detection", ge=0, lt=1
    )
    min_length: float = setting(
        0.05,
        "Candidates must be longer than this, in snippets; -1 keeps those of no length.",
        "Detection",
        ge=-1,
        le=1000,
    )

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, kernel_size: int) -> int:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size can't be {kernel_size}, it has to be odd")
        return kernel_size

    @model_validator(mode="after")
    def _consistent(self):
        bounds = self.regression_bounds
        if len(bounds) != self.levels - 1:
            raise ValueError(
                f"regression_bounds has {len(bounds)} values, but levels={self.levels} needs "
                f"{self.levels - 1}: one for every level but the last"
            )
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"regression_bounds must rise from level to level, not {bounds}")
        stride = 2 ** (self.levels - 1)
        if self.sequence_length % stride:
            raise ValueError(
                f"sequence_length can't be {self.sequence_length}: with levels={self.levels} it has to be a "
                f"multiple of {stride}, such as {max(1, round(self.sequence_length / stride)) * stride}"
            )
        if self.crop_low > self.crop_high:
            raise ValueError(f"crop_low ({self.crop_low:g}) can't be above crop_high ({self.crop_high:g})")
        if self.resize is not None and self.resize > self.sequence_length:
            raise ValueError(
                f"resize ({self.resize}) can't be above sequence_length ({self.sequence_length})"
            )
        return self

    @property
    def needs_class_scores(self) -> bool:
        """Whether the network makes proposals without classes."""
        return self.classes == "agnostic"

    @property
    def opentad(self) -> bool:
        """Whether OpenTAD's program is followed."""
        return getattr(self, "program", "authors") == "opentad"

    @property
    def epsilon(self) -> float:
        """What is added to the variance in the norms of embedding, neck and heads."""
        return 1e-6 if self.opentad else 1e-5

    def num_outputs(self, num_classes: int) -> int:
        """Classes that the network tells apart, in a dataset of ``num_classes``."""
        return 1 if self.classes == "agnostic" else num_classes

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Nearest and farthest segment end, in snippets, that each level is trained on."""
        lows = [0.0, *(bound / self.range_overlap for bound in self.regression_bounds)]
        return list(zip(lows, [*self.regression_bounds, math.inf], strict=True))


def sampler(model: nn.Module, dataset: FeatureDataset, config: PyramidConfig) -> ClipSampler:
    """Training clips as the config asks for; of class 0 where actions are one class."""
    del model
    crop = None if config.crop_low == config.crop_high == 1 else (config.crop_low, config.crop_high)
    clips = ClipSampler(
        dataset,
        config.batch_size,
        config.sequence_length,
        crop=crop,
        min_overlap=config.min_overlap,
        resize=config.resize,
        resample=resample_opentad if config.opentad else resample,
    )
    if config.classes == "agnostic":
        clips.truth = {video: (segments, 0 * labels) for video, (segments, labels) in clips.truth.items()}
    return clips


def resized(features: torch.Tensor, grid: TimeGrid, config: PyramidConfig) -> tuple[torch.Tensor, TimeGrid]:
    """A video's ``(T, D)`` features and time grid as the network sees them."""
    if config.resize is None:
        return features, grid
    return (resample_opentad if config.opentad else resample)(features, grid, config.resize)


def resample_opentad(features: torch.Tensor, grid: TimeGrid, length: int) -> tuple[torch.Tensor, TimeGrid]:
    """``clips.resample`` as OpenTAD does it: region alignment (He et al., Mask R-CNN, ICCV 2017) in time.

    A new snippet is the mean of as many equally spaced points, interpolated between half-precision features,
    as it stands for old ones, rounded up. Position 0 is where the first snippet begins, not its centre.
    """
    points = math.ceil(len(features) / length)
    dense, fine = resample(features.half().to(features.dtype), grid, points * length)
    stride = points * fine.stride
    return dense.unflatten(0, (length, points)).mean(dim=1), TimeGrid(stride, fine.offset - fine.stride / 2)


def padded_length(length: int, sequence_length: int, multiple: int) -> int:
    """Snippets to which the references pad a video: the training length, or the next ``multiple``."""
    return sequence_length if length <= sequence_length else -(-length // multiple) * multiple


# Network


class Tower(nn.Module):
    """``layers`` x [masked convolution, LayerNorm, ReLU], and a masked output convolution if asked for.

    OpenTAD's masks again behind the activation, and not behind the output.
    """

    def __init__(
        self,
        config: PyramidConfig,
        channels: int,
        hidden: int,
        layers: int,
        kernel_size: int,
        outputs: int | None = None,
    ):
        super().__init__()
        self.opentad = config.opentad
        sizes = [channels, *[hidden] * layers]
        self.convs = nn.ModuleList(
            Convolution(before, after, kernel_size, bias=False) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, config.epsilon) for _ in range(layers))
        self.output = None if outputs is None else Convolution(sizes[-1], outputs, kernel_size)

    def forward(
        self, x: torch.Tensor, invalid: torch.Tensor, gap: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``(B, T, channels)`` -> ``(B, T, outputs)``, 0 where ``invalid``; or ``(B, T, hidden)``, 0 in gaps.

        Args:
            x: 0 in the gaps.
            invalid: ``(B, T, 1)``, true on padding and gaps.
            gap: ``(B, T, 1)``, true on gaps.
        """
        zero = invalid if self.opentad else gap
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm_relu(conv(x), norm, invalid, zero)
        if self.output is None:
            return x
        return self.output(x).masked_fill(gap if self.opentad and gap is not None else invalid, 0)


class Heads(nn.Module):  # pylint: disable=abstract-method
    """Classification and regression of every cell, the same on all levels but for one scale each."""

    def __init__(self, config: PyramidConfig, num_classes: int, distances: int = 2):
        super().__init__()
        size = (config, config.embed_dim, config.head_dim, config.head_layers - 1, config.kernel_size)
        self.classification = Tower(*size, num_classes)
        self.regression = Tower(*size, distances)
        self.scale = nn.Parameter(torch.ones(config.levels))
        prior = math.log(config.class_prior / (1 - config.class_prior))
        nn.init.constant_(self.classification.output.bias, prior)

    def logits(self, cells: Cells) -> torch.Tensor:
        """Class logits ``(N, K)`` of all cells, 0 where invalid."""
        return self.classification(cells.features, cells.invalid, cells.gap)[0]

    def distances(self, cells: Cells, index: torch.Tensor | None = None) -> torch.Tensor:
        """Distances >= 0, ``(N, 2)`` in strides: of all cells, or the cells ``index`` (M,) alone."""
        level = cells.level if index is None else cells.level[index]
        return F.relu(read(self.regression, cells, index) * self.scale[level].unsqueeze(-1))


class Cells(NamedTuple):
    """What the heads see: the levels of all videos behind one another, gap cells in between.

    ``features`` (1, N, C), 0 in gaps; ``invalid`` (1, N, 1), true on padding and gaps; ``gap`` (1, N, 1);
    ``level`` (N,); ``video`` (N,).
    """

    features: torch.Tensor
    invalid: torch.Tensor
    gap: torch.Tensor
    level: torch.Tensor
    video: torch.Tensor


def read(
    tower: Tower, cells: Cells, index: torch.Tensor | None = None, output: torch.Tensor | None = None
) -> torch.Tensor:
    """A tower's outputs on all cells ``(N, outputs)``, or on the cells ``index`` (...) alone.

    These are ``(..., outputs)``, or ``(...)`` of the one ``output`` named for each. The tower runs over the
    cells asked for and what it sees around them, put together. At the seams it sees wrong neighbours, but
    their influence ends before the cells that are asked for.
    """
    around = (cells.features, cells.invalid, cells.gap)
    if index is None:
        return tower(*around)[0]
    reach = sum(conv.kernel_size[0] // 2 for conv in (*tower.convs, tower.output))
    asked = torch.zeros(len(cells.level), device=index.device)
    asked[:1] = 1  # never none
    asked[index] = 1
    seen = F.max_pool1d(asked[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0
    chosen, row = seen.nonzero().squeeze(1), index
    if len(chosen) < MOST_CHOSEN * len(seen):
        around, row = [part.index_select(1, chosen) for part in around], (seen.cumsum(0) - 1)[index]
    outputs = tower(*around)[0]
    return outputs[row] if output is None else outputs[row, output]


class Joined(NamedTuple):
    """The levels of a pyramid behind one another, each followed by gap cells.

    ``features`` (B, T, C), ``invalid`` (B, T, 1), ``gap`` (1, T, 1), ``level`` (T,).
    """

    features: torch.Tensor
    invalid: torch.Tensor
    gap: torch.Tensor
    level: torch.Tensor


def join_levels(levels: Sequence[torch.Tensor], valid: Sequence[torch.Tensor], gap: int) -> Joined:
    """Join ``(B, T_l, C)`` levels and their ``(B, T_l)`` masks, with ``gap`` cells of 0 between them."""
    features = torch.cat([F.pad(level, (0, 0, 0, gap)) for level in levels], dim=1)
    invalid = ~torch.cat([F.pad(mask, (0, gap)) for mask in valid], dim=1)
    sizes = torch.tensor([level.shape[1] + gap for level in levels], device=features.device)
    index = torch.arange(len(levels), device=features.device).repeat_interleave(
        sizes, output_size=features.shape[1]
    )
    between = torch.cat(
        [torch.arange(level.shape[1] + gap, device=features.device) >= level.shape[1] for level in levels]
    )
    return Joined(features, invalid.unsqueeze(2), between.view(1, -1, 1), index)


def one_sequence(joined: Joined) -> Cells:
    """The videos behind one another; the gap behind the last level of each holds them apart."""
    videos, cells, _ = joined.features.shape
    number = torch.arange(videos, device=joined.level.device)
    return Cells(
        joined.features.view(1, videos * cells, -1),
        joined.invalid.view(1, -1, 1),
        joined.gap.expand(videos, -1, -1).reshape(1, -1, 1),
        joined.level.repeat(videos),
        number.repeat_interleave(cells),
    )


def valid_levels(cells: torch.Tensor, lengths: Sequence[int], gap: int, length: int) -> list[torch.Tensor]:
    """``(N, ...)`` of one video's joined levels -> ``(T_l, ...)`` of those cells that are real snippets."""
    parts = cells.split([n + gap for n in lengths])
    return [part[: math.ceil(length / 2**level)] for level, part in enumerate(parts)]


def drop_channels(features: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Leave channels of ``(B, T, D)`` out for a whole clip, as ASFormer does (Yi et al., BMVC 2021)."""
    if probability == 0 or not training:
        return features
    kept = torch.rand(len(features), 1, features.shape[2], device=features.device) >= probability
    return features * (kept / (1 - probability)).to(features.dtype)


def drop_path(x: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Leave a residual branch ``(B, T, C)`` out, video by video, and scale the others up to make good."""
    if probability == 0 or not training:
        return x
    kept = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x * (kept / (1 - probability)).to(x.dtype)


def position_encoding(length: int, table_length: int, channels: int, device) -> torch.Tensor:
    """``(length, channels)`` sines and cosines over 1/sqrt(channels) (Vaswani et al., 2017).

    Made for ``table_length`` positions; a longer sequence gets them stretched.
    """
    channel = torch.arange(channels, device=device)
    wave = 10000.0 ** (2 * torch.div(channel, 2, rounding_mode="floor") / channels)
    angle = torch.arange(table_length, device=device).unsqueeze(1) / wave
    table = torch.where(channel % 2 == 0, angle.sin(), angle.cos()) / math.sqrt(channels)
    if length > table_length:
        stretched = F.interpolate(table.T.unsqueeze(0), size=length, mode="linear", align_corners=False)
        return stretched[0].T
    return table[:length]


# Reference checkpoints


def shared_from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Embedding, neck and heads under the names of this package, from the references' state dict.

        backbone.embd.i.conv.*               embedding.convs.i.*
        backbone.embd_norm.i.*               embedding.norms.i.*
        neck.fpn_norms.l.*                   neck.l.*
        cls_head.head.i.conv.*  .norm.i.*    heads.classification.convs.i.*  .norms.i.*
        cls_head.cls_head.conv.*             heads.classification.output.*
        reg_head...  .offset_head.conv.*     heads.regression...  .output.*
        reg_head.scale.l.scale               heads.scale[l]

    Norms and scales are stored as (1, C, 1) there and as (C,) here. The prefix ``module.`` of official files
    is taken off. Other names are kept for the method to translate.
    """
    renamed, scales = {}, {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if name.startswith("reg_head.scale."):
            scales[int(name.split(".")[2])] = value
        else:
            vector = value.ndim == 3 and value.shape[0] == value.shape[2] == 1
            renamed[_shared_name(name)] = value.flatten() if vector else value
    if scales:
        renamed["heads.scale"] = torch.stack([scales[level] for level in sorted(scales)])
    return renamed


def _shared_name(name: str) -> str:
    for old, new in _SHARED_NAMES:
        if name.startswith(old):
            return new + name.removeprefix(old).replace(".conv.", ".")
    return name


_SHARED_NAMES = (
    ("backbone.embd_norm.", "embedding.norms."),
    ("backbone.embd.", "embedding.convs."),
    ("neck.fpn_norms.", "neck."),
    ("cls_head.cls_head.conv.", "heads.classification.output."),
    ("reg_head.offset_head.conv.", "heads.regression.output."),
    ("cls_head.head.", "heads.classification.convs."),
    ("reg_head.head.", "heads.regression.convs."),
    ("cls_head.norm.", "heads.classification.norms."),
    ("reg_head.norm.", "heads.regression.norms."),
)
