"""Encoders: networks that turn clips into vectors, with their weights read from this machine alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from tal_core.types import InputError
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.video.extractors.windows import Encoder

# Mean and deviation of each colour, of pixels in 0..1: of Kinetics-400 (torchvision), ImageNet, CLIP's data
# (Radford et al., 2021); "half" is MViT's.
NORMALISATIONS = {
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "bytes": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
Colours = tuple[float, float, float]
_SETUP = "pip install -r requirements-video.txt"


def colours_of(spec: ExtractorSpec) -> tuple[Colours, Colours]:
    """Mean and deviation of each colour by the extractor's settings."""
    return NORMALISATIONS[spec.normalise or "unit"]


class TorchEncoder:
    """An encoder whose ``network`` takes (B, 3, T, S, S) floats and gives (B, D), run on ``device``.

    ``source`` names the weights in messages.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ExtractorSpec,
        device: torch.device,
        *,
        frames: int,
        size: int,
        colours: tuple[Colours, Colours],
        source: object,
    ):
        self.network = network.to(device).eval()
        self.frames, self.size, self.device, self.source = frames, size, device, source
        mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1, 1) for values in colours)
        # (pixels / 255 - mean) / deviation as one product and one difference
        self._scale, self._shift = 1 / (255 * deviation), mean / deviation
        self._precision = getattr(torch, spec.precision or "float32")
        self.num_features = trial(self, source)

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) uint8 to (B, D) float32. Raises InputError if memory runs out."""
        try:
            pixels = torch.from_numpy(clips).to(self.device).permute(0, 4, 1, 2, 3)
            pixels = pixels * self._scale - self._shift
            with torch.autocast(self.device.type, self._precision, enabled=self._precision != torch.float32):
                vectors = self.network(pixels)
        except torch.OutOfMemoryError as error:
            hint = "Use a smaller frame_size or fewer frames, or device=cpu."
            raise InputError(
                f"not enough memory on {self.device} for {len(clips)} clips", where=self.source, hint=hint
            ) from error
        return flat(vectors.float().cpu().numpy(), len(clips), self.source)


def trial(encoder: Encoder, source: object) -> int:
    """Run an encoder once on a black clip; the length of its vectors.

    Raises:
        InputError: if it fails.
    """
    shape = (1, encoder.frames, encoder.size, encoder.size, 3)
    try:
        return encoder(np.zeros(shape, np.uint8)).shape[1]
    except InputError:
        raise
    except Exception as error:  # foreign code, of any kind
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        clip = f"(1, 3, {shape[1]}, {shape[2]}, {shape[3]})"
        what = f"refuses clips of shape {clip}: {lines[-1] if lines else type(error).__name__}"
        hint = "Set frames and frame_size to what it was made for."
        raise InputError(what, where=source, hint=hint) from error


def flat(vectors: np.ndarray, batch: int, source: object) -> np.ndarray:
    """An encoder's answer as (B, D); what it leaves of time and place, (B, D, T, H, W), is averaged.

    Raises:
        InputError: for any other shape.
    """
    if vectors.ndim == 5:
        vectors = vectors.mean(axis=(2, 3, 4))
    if vectors.ndim != 2 or len(vectors) != batch:
        what = f"gives an array of shape {vectors.shape} for {batch} clips"
        raise InputError(what, where=source, hint="An encoder gives (1, D) for a clip (1, 3, T, H, W).")
    return vectors.astype(np.float32, copy=False)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a ``.safetensors`` file, or one that ``torch.save`` has written; nothing is unpickled.

    Raises:
        InputError: if the file is missing or faulty.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such file of weights", where=path, hint="Check the path.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        what = f"can't be read as weights ({str(error).splitlines()[0]})"
        raise InputError(what, where=path, hint="Download the file again.") from error
    except Exception as error:  # torch raises pickle's UnpicklingError, which isn't imported here on purpose
        what = "is no plain file of weights: reading it would run code"
        raise InputError(what, where=path, hint="Save its state_dict alone, or safetensors.") from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise InputError("holds no table of weights", where=path, hint="Save the model's state_dict.")
    return {name.removeprefix("module."): value for name, value in content.items()}


def import_package(name: str) -> ModuleType:
    """An optional package. Raises InputError if it isn't there or doesn't work."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
        missing = isinstance(error, ModuleNotFoundError)
        package = name.partition(".")[0]
        what = f"{package} is not installed" if missing else f"{package} can't be imported ({error})"
        raise InputError(what, hint=f"Install the extras: {_SETUP}.") from error
