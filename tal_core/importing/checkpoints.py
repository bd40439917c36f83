"""Checkpoints of other programs as weights and settings of this one.

    actionformer, tridet, temporalmaxer    the authors' .pth.tar and .yaml
    bmn                                    JJBOY/BMN's .pth.tar and its options as .json
    opentad-actionformer, opentad-tridet   OpenTAD's .pth and .py

Sizes are read off the weights, so that a config is only needed for what leaves no trace in them: windows,
padding, post-processing. The names of the weights are translated by each method's ``from_reference``, those
of OpenTAD by ``opentad_names`` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tal_core.importing.checkpoint_files import read_config, read_state
from tal_core.importing.foreign_settings import (
    OFFICIAL_AGNOSTIC,
    OPENTAD_AGNOSTIC,
    bmn_settings,
    official_settings,
    opentad_settings,
)
from tal_core.models.bmn import bmn
from tal_core.models.config import MethodConfig, validated
from tal_core.models.pyramid import actionformer, temporalmaxer, tridet
from tal_core.models.registry import get_method
from tal_core.types import InputError

State = dict[str, torch.Tensor]
# What a checkpoint need not hold: our own running numbers, and layers that scale by 1.
OPTIONAL = ("normaliser.value", "mean", "std")
UNSCALED = (".attention_scale", ".mlp_scale")


@dataclass(frozen=True)
class Source:
    """A program whose checkpoints can be read: the method they are of, and how to read its config.

    ``agnostic``: what holds for networks of one class beside the config.
    """

    method: str
    translate: Callable[[State], State]
    settings: Callable[[Mapping[str, Any], str], dict[str, Any]]
    agnostic: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """Weights under this program's names, the settings they need, and how many epochs they were trained.

    ``num_classes`` is None for proposals without classes.
    """

    method: str
    config: MethodConfig
    weights: State = field(repr=False)
    num_features: int
    num_classes: int | None
    epoch: int


def opentad_names(state: State) -> State:
    """Weights of OpenTAD's ActionFormer or TriDet under the names of the authors' programs.

    projection.embed.i.conv / .norm          backbone.embd.i.conv / embd_norm.i
    projection.stem.i  .branch.i             backbone.stem.i  .branch.i
    neck.fpn_norms.l                         the same
    rpn_head.cls_convs.i.conv / .norm        cls_head.head.i.conv / norm.i; reg_convs: reg_head
    rpn_head.cls_start_convs.i, cls_end_...  start_head, end_head
    rpn_head.cls_head  reg_head              cls_head.cls_head.conv  reg_head.offset_head.conv
    rpn_head.cls_start_head  cls_end_head    start_head.cls_head.conv  end_head.cls_head.conv
    rpn_head.scale.l.scale                   reg_head.scale.l.scale
    rpn_head.loss_normalizer                 normaliser.value
    """
    return {_opentad_name(name): value for name, value in state.items()}


def _opentad_name(name: str) -> str:
    parts = name.split(".")
    match parts:
        case ["projection", "embed", number, "conv", *rest]:
            parts = ["backbone", "embd", number, "conv", *rest]
        case ["projection", "embed", number, "norm", *rest]:
            parts = ["backbone", "embd_norm", number, *rest]
        case ["projection", *rest]:
            parts = ["backbone", *rest]
        case ["rpn_head", "loss_normalizer"]:
            parts = ["normaliser", "value"]
        case ["rpn_head", "scale", *rest]:
            parts = ["reg_head", "scale", *rest]
        case ["rpn_head", convs, number, part, *rest] if convs in _OPENTAD_TOWERS:
            middle = ["head", number, "conv"] if part == "conv" else ["norm", number]
            parts = [_OPENTAD_TOWERS[convs], *middle, *rest]
        case ["rpn_head", output, *rest] if output in _OPENTAD_OUTPUTS:
            parts = [*_OPENTAD_OUTPUTS[output], "conv", *rest]
    return ".".join(parts)


_OPENTAD_TOWERS = {
    "cls_convs": "cls_head",
    "reg_convs": "reg_head",
    "cls_start_convs": "start_head",
    "cls_end_convs": "end_head",
}
_OPENTAD_OUTPUTS = {
    "cls_head": ("cls_head", "cls_head"),
    "reg_head": ("reg_head", "offset_head"),
    "cls_start_head": ("start_head", "cls_head"),
    "cls_end_head": ("end_head", "cls_head"),
}

SOURCES: dict[str, Source] = {
    "actionformer": Source("actionformer", actionformer.from_reference, official_settings, OFFICIAL_AGNOSTIC),
    "tridet": Source("tridet", tridet.from_reference, official_settings, OFFICIAL_AGNOSTIC),
    "temporalmaxer": Source(
        "temporalmaxer", temporalmaxer.from_reference, official_settings, OFFICIAL_AGNOSTIC
    ),
    "bmn": Source("bmn", bmn.from_reference, bmn_settings),
    "opentad-actionformer": Source(
        "actionformer",
        lambda state: actionformer.from_reference(opentad_names(state)),
        opentad_settings,
        OPENTAD_AGNOSTIC,
    ),
    "opentad-tridet": Source(
        "tridet",
        lambda state: tridet.from_reference(opentad_names(state)),
        opentad_settings,
        OPENTAD_AGNOSTIC,
    ),
}


def recognise(state: State) -> str | None:
    """Which source a state dict is from, by the names in it."""
    opentad = "opentad-" if any(name.startswith("rpn_head.cls_convs.") for name in state) else ""
    if any(".attn.query_conv." in name for name in state):
        return opentad + "actionformer"
    if any(name.endswith(".psi.weight") for name in state):
        return opentad + "tridet"
    if "x_1d_b.0.weight" in state:
        return "bmn"
    pooled = "backbone.embd.0.conv.weight" in state and not any("backbone.branch." in name for name in state)
    return "temporalmaxer" if pooled else None


def read_imported(source: str, weights: Path, config: Path | None = None) -> Imported:
    """Read a checkpoint of ``source`` (one of ``SOURCES``) and the config that it was trained with.

    Raises:
        InputError: if a file can't be read, the checkpoint is another method's or the config doesn't fit it.
    """
    state, epoch = read_state(weights)
    found = recognise(state)
    if found != source:
        known = f"is a checkpoint of {found}" if found else "is of none of the methods that can be imported"
        hint = f"Import it with --from {found}." if found else f"Known: {', '.join(SOURCES)}."
        raise InputError(f"{known}, not of {source}", where=weights, hint=hint)
    how = SOURCES[source]
    try:
        translated = how.translate(state)
    except (KeyError, StopIteration, RuntimeError, IndexError, ValueError) as error:
        what = f"holds weights that {source} doesn't have ({error})"
        raise InputError(what, where=weights, hint="Only the published networks can be imported.") from None
    sizes = _bmn_sizes(state) if source == "bmn" else _pyramid_sizes(translated)
    output = translated.get("heads.classification.output.weight")
    classes = None if output is None else len(output)
    chosen = _config(how, sizes, config, how.agnostic if classes == 1 else {})
    first = "base.0.weight" if source == "bmn" else "embedding.convs.0.weight"
    features = translated[first].shape[1] * (getattr(chosen, "groups", 1) if source == "bmn" else 1)
    return Imported(how.method, chosen, translated, features, classes, epoch)


def _config(
    how: Source, sizes: Mapping[str, Any], path: Path | None, known: Mapping[str, Any]
) -> MethodConfig:
    """The settings of a config file, if there is one, of what the weights tell, and what is ``known``."""
    settings = how.settings(read_config(path) if path else {}, how.method)
    for name, value in sizes.items():
        if path and settings.get(name, value) != value:
            what = f"says {name} is {settings[name]}, but in the checkpoint it is {value}"
            raise InputError(what, where=path, hint="Give the config that belongs to the checkpoint.")
    return validated(get_method(how.method).config, _fitted({**settings, **sizes, **known}), where=path)


def _pyramid_sizes(state: State) -> dict[str, Any]:
    """Settings that the shapes of a pyramid method's weights tell."""

    def count(prefix: str) -> int:
        return len({name.split(".")[prefix.count(".")] for name in state if name.startswith(prefix)})

    head = state["heads.classification.output.weight"]
    embedding = state["embedding.convs.0.weight"]
    sizes: dict[str, Any] = {
        "embed_dim": len(embedding),
        "embed_layers": count("embedding.convs."),
        "head_dim": head.shape[1],
        "head_layers": count("heads.classification.convs.") + 1,
        "kernel_size": head.shape[2],
        "levels": len(state["heads.scale"]),
    }
    if any(name.startswith("branch.") for name in state):
        sizes["stem_blocks"] = count("stem.")
    else:
        sizes["neck_norm"] = "layernorm" if "neck.weight" in state else "groupnorm"
    if "branch.0.psi.weight" in state:
        sizes |= {
            "embed_kernel_size": embedding.shape[2],
            "boundary_kernel_size": state["start.output.weight"].shape[2],
            "mlp_dim": len(state["branch.0.mlp_in.weight"]),
            "window": state["branch.0.psi.weight"].shape[2],
            "bins": len(state["heads.regression.output.weight"]) // 2 - 1,
        }
    return sizes


def _bmn_sizes(state: State) -> dict[str, Any]:
    """Settings that the shapes of BMN's weights tell; ``sample_mask`` is (T, samples x T x T)."""
    wide = state["x_3d_p.0.weight"]
    return {
        "length": len(state["sample_mask"]) if "sample_mask" in state else 100,
        "samples": wide.shape[2],
        "sample_channels": len(wide),
        "base_channels": len(state["x_1d_b.0.weight"]),
        "map_channels": len(state["x_2d_p.0.weight"]),
        "groups": len(state["x_1d_b.0.weight"]) // state["x_1d_b.2.weight"].shape[1],
    }


def _fitted(settings: dict[str, Any]) -> dict[str, Any]:
    """Regression bounds for the levels there are, where the config doesn't say."""
    if "levels" in settings:
        settings.setdefault("regression_bounds", [4 * 2**level for level in range(settings["levels"] - 1)])
    return settings


def class_order(classes: int, labels: Sequence[str], stated: Sequence[str], where: object) -> list[int]:
    """Which of the checkpoint's classes is each of the dataset's ``labels``.

    Args:
        stated: the checkpoint's classes, in its order.

    Raises:
        InputError: if the checkpoint has another number of classes, or other names.
    """
    if len(stated) != classes:
        what = f"the checkpoint has {classes} classes, but {len(stated)} are given"
        raise InputError(what, where=where, hint="Use the dataset that it was trained on, or --labels FILE.")
    unknown = [label for label in stated if label not in labels] + [v for v in labels if v not in stated]
    if unknown or len(labels) != classes:
        what = (
            f"class {unknown[0]!r} is not in both the dataset and the checkpoint's list"
            if unknown
            else (f"the checkpoint has {classes} classes, the dataset {len(labels)}")
        )
        raise InputError(what, where=where, hint="Name the classes as the dataset does, one a line.")
    return [list(stated).index(label) for label in labels]


def complete(imported: Imported, expected: State, order: Sequence[int] | None, where: Path) -> State:
    """All weights that a network has (``expected``, freshly made), classes in ``order``.

    Raises:
        InputError: naming the first weight that is missing, left over or of another shape.
    """
    weights = dict(imported.weights)
    for name, value in expected.items():
        if name not in weights and name in OPTIONAL:
            weights[name] = value
        elif name not in weights and name.endswith(UNSCALED):
            weights[name] = torch.ones_like(value)
    for name in (*expected, *weights):
        ours = tuple(expected[name].shape) if name in expected else "absent"
        theirs = tuple(weights[name].shape) if name in weights else "absent"
        if ours != theirs:
            what = f"weights {name} are {theirs} in the checkpoint and {ours} in {imported.method}"
            raise InputError(what, where=where, hint="Give the config that belongs to the checkpoint.")
    if order is not None:
        for head in ("heads.classification", "start", "end"):
            for part in ("weight", "bias"):
                if (name := f"{head}.output.{part}") in weights:
                    weights[name] = weights[name][list(order)]
    return {name: value.to(expected[name].dtype) for name, value in weights.items()}
