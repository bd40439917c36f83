"""A run's network for programs without this one: TorchScript, ``torch.export`` or ONNX, compared with it.

    online methods    step      features (B, 1, D), state (layers, B, H) -> scores (B, 1, K), state after
                      sequence  the same with T snippets; a whole video starts from a state of zeros
    other methods     features (T, D) of a video -> scores (T, K)

Scores are class probabilities of snippets, normalisation of the features included. ``torch.export`` unrolls
recurrent layers, so that it has one stream's step alone. What keeps a method from a format says
``Method.not_exportable``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from tal_core.inference.predict import TrainedModel
from tal_core.models.registry import METHODS, get_method
from tal_core.streaming.online.recurrent import RecurrentNetwork
from tal_core.types import InputError
from tal_core.workspace import write_bytes, write_json, writing

FORMATS = ("torchscript", "torch-export", "onnx")
LENGTHS = (3, 17, 64)
TOLERANCE = 1e-4


class SnippetScorer(Protocol):
    """A network that scores the snippets of a whole video at once."""

    def snippet_scores(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` -> ``(T, K)`` or, with background as the last class, ``(T, K + 1)``."""


class RecurrentExport(nn.Module):
    """The network of an online method from features and state to class scores and state."""

    def __init__(self, network: RecurrentNetwork):
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(B, T, D)``, ``(layers, B, H)`` -> ``(B, T, K)``, ``(layers, B, H)``."""
        return self.network.advance(features, state)


class VideoExport(nn.Module):
    """A network from a video's features to scores of its ``num_classes`` classes."""

    def __init__(self, network: SnippetScorer, num_classes: int):
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` -> ``(T, K)``."""
        return self.network.snippet_scores(features)[:, : self.num_classes]


def why_not(name: str, kind: str) -> str | None:
    """Why a method can't be exported in a format; None if it can."""
    reason = get_method(name).not_exportable(kind)
    return None if reason is None else f"{name} {reason}"


def _exportable() -> str:
    """The methods that can be exported, and how."""
    forms = {name: [kind for kind in FORMATS if not why_not(name, kind)] for name in METHODS}
    return ", or of ".join(f"{name} as {' or '.join(kinds)}" for name, kinds in forms.items() if kinds)


def export_run(
    model: TrainedModel, kind: str, out: Path, features: Sequence[np.ndarray], extractor: Any = None
) -> dict[str, Any]:
    """Write the network as ``kind`` (of ``FORMATS``) to ``out``, and what it needs to ``out`` + ``.json``.

    ``features``: ``(T, D)`` arrays to compare both on; pieces of several lengths are taken of each. Returns
    what the JSON holds.

    Raises:
        InputError: if the method can't be exported so, or the outputs differ by more than 1e-4: nothing is
            written then.
    """
    reason = why_not(model.info.method, kind)
    if reason:
        raise InputError(reason, where=kind, hint=f"Export a run of {_exportable()}.")
    network, size = model.network.cpu().eval(), model.info.num_features
    module: RecurrentExport | VideoExport
    example: tuple[torch.Tensor, ...]
    if get_method(model.info.method).online:
        module = RecurrentExport(cast(RecurrentNetwork, network))
        example = torch.zeros(2, 5, size), module.network.zero_state(2)
    else:
        module = VideoExport(cast(SnippetScorer, network), len(model.info.labels))
        example = (torch.zeros(40, size),)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    with writing(out):
        try:
            run = _WRITERS[kind](module.eval(), example, temporary)
            worst = _difference(module, run, features, sequences=kind != "torch-export")
            if not worst <= TOLERANCE:
                what = f"the exported network's scores differ by up to {worst:.2g} from the run's"
                raise InputError(what, where=kind, hint="Export in another format.")
            write_bytes(out, temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)
    description = _description(model, module, kind, worst, extractor)
    write_json(out.with_name(out.name + ".json"), description)
    return description


def _torchscript(module: nn.Module, example: tuple, path: Path) -> Callable:
    with torch.no_grad():
        traced = torch.jit.trace(module, example, check_trace=False)
    traced.save(str(path))
    return torch.jit.load(str(path))


def _torch_export(module: nn.Module, example: tuple, path: Path) -> Callable:
    features, state = example
    with torch.no_grad():
        program = torch.export.export(module, (features[:1, :1], state[:, :1]))
    with path.open("wb") as file:
        torch.export.save(program, file)
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _onnx(module: nn.Module, example: tuple, path: Path) -> Callable:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        importlib.import_module("onnxscript")
    except ImportError as error:
        what = f"ONNX needs the package {error.name}, which is not among the requirements"
        raise InputError(what, hint="Install it: pip install -r requirements-export.txt") from None
    names = ["features", "state"][: len(example)]
    # The older exporter keeps the GRU as one operator of any length.
    axes = {"features": {0: "streams", 1: "snippets"}, "state": {1: "streams"}, "state_after": {1: "streams"}}
    if len(example) == 1:
        axes = {"features": {0: "snippets"}}
    torch.onnx.export(
        module,
        example,
        str(path),
        input_names=names,
        output_names=["scores", "state_after"][: len(example)],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(*inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        arrays = session.run(None, {name: array.numpy() for name, array in zip(names, inputs, strict=True)})
        tensors = tuple(map(torch.from_numpy, arrays))
        return tensors if len(tensors) > 1 else tensors[0]

    return run


_WRITERS = {"torchscript": _torchscript, "torch-export": _torch_export, "onnx": _onnx}


@torch.no_grad()
def _difference(
    module: RecurrentExport | VideoExport, run: Callable, features: Sequence[np.ndarray], sequences: bool
) -> float:
    """The largest difference of scores on pieces of several lengths, and of a stream's single steps."""
    worst = 0.0
    for array in features:
        for length in (*LENGTHS, len(array)):
            piece = torch.from_numpy(np.array(array[:length], np.float32))
            if isinstance(module, VideoExport):
                worst = max(worst, _apart(module(piece), run(piece)))
                continue
            zero, batch = module.network.zero_state(), piece.unsqueeze(0)
            whole = module(batch, zero)[0]
            if sequences:
                worst = max(worst, _apart(whole, run(batch, zero)[0]))
            state, steps = zero, []
            for row in piece[: max(LENGTHS)]:
                scores, state = run(row.view(1, 1, -1), state)
                steps.append(scores[0])
            worst = max(worst, _apart(whole[0, : len(steps)], torch.cat(steps)))
    return worst


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


def _description(
    model: TrainedModel, module: RecurrentExport | VideoExport, kind: str, worst: float, extractor: Any
) -> dict[str, Any]:
    info = model.info
    size, classes = info.num_features, len(info.labels)
    inputs: dict[str, list[int | str]] = {"features": ["T", size]}
    outputs: dict[str, list[int | str]] = {"scores": ["T", classes]}
    state: list[int | str] = []
    if isinstance(module, RecurrentExport):
        layers, _, width = module.network.zero_state().shape
        state = [layers, "B", width]
        inputs = {"features": ["B", "T", size], "state": state}
        outputs = {"scores": ["B", "T", classes], "state_after": state}
        if kind == "torch-export":
            state[1] = 1
            inputs["features"][:2] = outputs["scores"][:2] = [1, 1]
    return {
        "method": info.method,
        "format": kind,
        "labels": info.labels,
        "grid": {"stride": info.grid.stride, "offset": info.grid.offset, "unit": "seconds"},
        "inputs": inputs,
        "outputs": outputs,
        "normalisation": "inside the network: give the features as the extractor makes them",
        "state": "zeros at the beginning of a stream" if state else None,
        "extractor": extractor,
        "largest_difference": worst,
        "torch": torch.__version__,
    }
