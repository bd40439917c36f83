"""A run's network for programs without this one: TorchScript, ``torch.export`` or ONNX, compared with it.

    miniroad    step      features (B, 1, D), state (layers, B, H) -> scores (B, 1, K), state after
                sequence  the same with T snippets; a whole video starts from a state of zeros
    baseline    features (T, D) of a video -> scores (T, K)

Scores are class probabilities of snippets, normalisation of the features included. The pyramid and proposal
methods lay out a video by its length while they run, which no format keeps for other lengths.
``torch.export`` unrolls the GRU, so that it has one stream's step alone, and fixes the baseline's pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tal_core.inference.predict import TrainedModel
from tal_core.models.baseline import TemporalLocalizationModel
from tal_core.models.miniroad import MiniRoad
from tal_core.types import InputError
from tal_core.workspace import write_bytes, write_json, writing

FORMATS = ("torchscript", "torch-export", "onnx")
LENGTHS = (3, 17, 64)
TOLERANCE = 1e-4


class RecurrentExport(nn.Module):
    """MiniROAD from features and state to class scores and state."""

    def __init__(self, network: MiniRoad):
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(B, T, D)``, ``(layers, B, H)`` -> ``(B, T, K)``, ``(layers, B, H)``."""
        logits, after = self.network(features, state)
        return logits.softmax(dim=2)[:, :, 1:], after


class BaselineExport(nn.Module):
    """The baseline from a video's features to class scores."""

    def __init__(self, network: TemporalLocalizationModel):
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` -> ``(T, K)``."""
        return self.network.snippet_scores(features)[:, :-1]


def why_not(method: str, kind: str) -> str | None:
    """Why a method can't be exported in a format; None if it can."""
    if method == "baseline" and kind == "torch-export":
        return "baseline pools over windows, which torch-export fixes to one length"
    if method not in ("miniroad", "baseline"):
        return f"{method} lays out a video by its length while it runs, which {kind} doesn't keep"
    return None


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
        known = "Export a run of miniroad, or of baseline as torchscript or onnx."
        raise InputError(reason, where=kind, hint=known)
    network = model.network.cpu().eval()
    recurrent = isinstance(network, MiniRoad)
    module = (RecurrentExport(network) if recurrent else BaselineExport(network)).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    with writing(out):
        try:
            run = _WRITERS[kind](module, _example(network, model.info.num_features), temporary)
            worst = _difference(module, run, network, features, sequences=kind != "torch-export")
            if not worst <= TOLERANCE:
                what = f"the exported network's scores differ by up to {worst:.2g} from the run's"
                raise InputError(what, where=kind, hint="Export in another format.")
            write_bytes(out, temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)
    said = _description(model, kind, recurrent, worst, extractor)
    write_json(out.with_name(out.name + ".json"), said)
    return said


def _example(network: nn.Module, num_features: int) -> tuple[torch.Tensor, ...]:
    if isinstance(network, MiniRoad):
        return torch.zeros(2, 5, num_features), network.zero_state(2)
    return (torch.zeros(40, num_features),)


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
        import onnxruntime  # pylint: disable=import-outside-toplevel  # an extra
        import onnxscript  # noqa: F401  # pylint: disable=import-outside-toplevel,unused-import
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

    def run(*inputs: torch.Tensor):
        found = session.run(None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})
        tensors = tuple(map(torch.from_numpy, found))
        return tensors if len(tensors) > 1 else tensors[0]

    return run


_WRITERS = {"torchscript": _torchscript, "torch-export": _torch_export, "onnx": _onnx}


@torch.no_grad()
def _difference(
    module: nn.Module, run: Callable, network: nn.Module, features: Sequence[np.ndarray], sequences: bool
) -> float:
    """The largest difference of scores on pieces of several lengths, and of a stream's single steps."""
    worst = 0.0
    for array in features:
        for length in (*LENGTHS, len(array)):
            piece = torch.from_numpy(np.array(array[:length], np.float32))
            if not isinstance(network, MiniRoad):
                worst = max(worst, _apart(module(piece), run(piece)))
                continue
            zero, both = network.zero_state(), piece.unsqueeze(0)
            whole = module(both, zero)[0]
            if sequences:
                worst = max(worst, _apart(whole, run(both, zero)[0]))
            state, steps = zero, []
            for row in piece[: max(LENGTHS)]:
                scores, state = run(row.view(1, 1, -1), state)
                steps.append(scores[0])
            worst = max(worst, _apart(whole[0, : len(steps)], torch.cat(steps)))
    return worst


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


def _description(model: TrainedModel, kind: str, recurrent: bool, worst: float, extractor: Any) -> dict:
    info, config = model.info, model.config
    size, classes = info.num_features, len(info.labels)
    inputs = {"features": ["T", size]}
    outputs = {"scores": ["T", classes]}
    if recurrent:
        state = [config.layers, "B", config.hidden_dim]
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
        "state": "zeros at the beginning of a stream" if recurrent else None,
        "extractor": extractor,
        "largest_difference": worst,
        "torch": torch.__version__,
    }
