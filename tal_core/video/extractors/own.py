"""A person's own encoder as TorchScript or ONNX: (1, 3, T, H, W) float in, (1, D) out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tal_core.types import InputError
from tal_core.video.extractors.encoders import TorchEncoder, colours_of, flat, import_package, trial
from tal_core.video.extractors.spec import ExtractorSpec


def load_torchscript(spec: ExtractorSpec, device: torch.device) -> TorchEncoder:
    """The encoder in the TorchScript file ``spec.model``.

    Raises:
        InputError: if it is missing, no TorchScript, or doesn't take clips of the spec's frames and size.
    """
    path = _file(spec)
    try:
        script = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        hint = "Save it with torch.jit.trace(model, clip).save(path)."
        raise InputError("is no TorchScript file", where=path, hint=hint) from error
    return TorchEncoder(
        _OneByOne(script),
        spec,
        device,
        frames=spec.clip_frames,
        size=spec.clip_size,
        colours=colours_of(spec),
        source=path,
    )


class _OneByOne(nn.Module):
    """Runs clips singly, since a traced network may hold its batch of 1 fast."""

    def __init__(self, script: nn.Module):
        super().__init__()
        self.script = script

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, S, S) to (B, ...)."""
        return torch.cat([self.script(clip[None]) for clip in clips])


def load_onnx(spec: ExtractorSpec, device: torch.device) -> OnnxEncoder:
    """The encoder in the ONNX file ``spec.model``; as ``load_torchscript``."""
    path = _file(spec)
    runtime = import_package("onnxruntime")
    runtime.set_default_logger_severity(3)
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    wanted = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(path), providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        hint = "Export it with torch.onnx.export."
        raise InputError(f"can't be read as ONNX ({reason})", where=path, hint=hint) from error
    return OnnxEncoder(session, spec, path)


class OnnxEncoder:
    """An ONNX network of one input; clips go through together where its batch size is free."""

    def __init__(self, session: Any, spec: ExtractorSpec, source: Path):
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 5:
            names = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            what = f"takes {names or 'nothing'}, not one clip"
            raise InputError(what, where=source, hint="An encoder takes one input (1, 3, T, H, W).")
        self.session, self.source = session, source
        self.frames, self.size = spec.clip_frames, spec.clip_size
        self._input = inputs[0].name
        self._type = np.float16 if "float16" in inputs[0].type else np.float32
        self._together = not isinstance(inputs[0].shape[0], int)
        mean, deviation = (np.array(c, np.float32) for c in colours_of(spec))
        self._scale, self._shift = 1 / (255 * deviation), mean / deviation
        self.num_features = trial(self, source)

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) uint8 to (B, D) float32."""
        pixels = (clips * self._scale - self._shift).astype(self._type)
        pixels = np.ascontiguousarray(pixels.transpose(0, 4, 1, 2, 3))
        parts = [pixels] if self._together else np.split(pixels, len(pixels))
        vectors = np.concatenate([self.session.run(None, {self._input: part})[0] for part in parts])
        return flat(vectors, len(clips), self.source)


def _file(spec: ExtractorSpec) -> Path:
    if not spec.model:
        raise InputError(f"{spec.name} needs an encoder", hint="Give its file as model=PATH.")
    path = Path(spec.model).expanduser()
    if not path.is_file():
        raise InputError("there is no such encoder file", where=path, hint="Check the path.")
    return path
