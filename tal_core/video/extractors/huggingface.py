"""Video and image encoders of Hugging Face's transformers, from a local folder or the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tal_core.types import InputError
from tal_core.video.extractors.encoders import NORMALISATIONS, Colours, TorchEncoder, import_package
from tal_core.video.extractors.spec import ExtractorSpec

_EXAMPLES = {
    "videomae": "MCG-NJU/videomae-base",
    "vjepa2": "facebook/vjepa2-vitl-fpc64-256",
    "image": "openai/clip-vit-base-patch16",
}
_USUAL_COLOURS = {"videomae": "imagenet", "vjepa2": "imagenet", "image": "clip"}
_PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")


def load(spec: ExtractorSpec, device: torch.device) -> TorchEncoder:
    """The encoder in ``spec.model``: a folder, or a hub id whose files lie in the cache.

    Raises:
        InputError: if transformers or the model is missing, it is of another kind, or lacks weights.
    """
    transformers = import_package("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if not spec.model:
        what = f"{spec.name} needs a model"
        hint = f"Give a folder or a hub id in the cache, such as model={_EXAMPLES[spec.name]}."
        raise InputError(what, hint=hint)
    folder = Path(spec.model).expanduser()
    source = str(folder) if folder.is_dir() else spec.model
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
        _check_kind(config, spec, source)
        network, notes = transformers.AutoModel.from_pretrained(
            source, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except InputError:
        raise
    except Exception as error:  # its errors are of many kinds
        raise _unusable(spec, source, error) from error
    missing = sorted(notes["missing_keys"]) + [str(key[0]) for key in notes["mismatched_keys"]]
    pooled = not any("pooler" in name for name in missing)
    lacking = [name for name in missing if "pooler" not in name]
    if lacking:
        what = f"lacks {len(lacking)} weights of its network, such as {lacking[0]}"
        raise InputError(what, where=source, hint="Download the model again.")
    wrapped, frames, size = _wrap(network, config, spec, pooled)
    return TorchEncoder(
        wrapped, spec, device, frames=frames, size=size, colours=_colours(spec, source), source=source
    )


def _check_kind(config: Any, spec: ExtractorSpec, source: str) -> None:
    video = config.model_type in ("videomae", "vjepa2")
    if config.model_type != spec.name and (video or spec.name != "image"):
        better = config.model_type if video else "image"
        what = f"is a model of type {config.model_type}, not {spec.name}"
        raise InputError(what, where=source, hint=f"Try the extractor {better}.")


def _unusable(spec: ExtractorSpec, source: str, error: Exception) -> InputError:
    if isinstance(error, OSError):
        what = "this model is not on this machine"
        hint = (
            "Nothing is downloaded by itself: on a machine with internet run"
            f" `hf download {_EXAMPLES[spec.name]} --local-dir FOLDER`, and give the folder as model=FOLDER."
        )
        return InputError(what, where=source, hint=hint)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    hint = "Use a model that this version of transformers knows."
    return InputError(f"can't be loaded ({reason[:200]})", where=source, hint=hint)


def _wrap(network: nn.Module, config: Any, spec: ExtractorSpec, pooled: bool) -> tuple[nn.Module, int, int]:
    """The network as (B, 3, T, S, S) to (B, D), its frames and size."""
    if spec.name == "videomae":
        # As its own classifier takes them.
        return _Tokens(network, "pixel_values"), config.num_frames, config.image_size
    if spec.name == "vjepa2":
        frames, size = spec.frames or config.frames_per_clip, spec.frame_size or config.crop_size
        return _Tokens(network, "pixel_values_videos", skip_predictor=True), frames, size
    vision = getattr(config, "vision_config", config)
    size = spec.frame_size or getattr(vision, "image_size", None) or 224
    size = size if isinstance(size, int) else size[0]
    return _Images(network, pooled), spec.clip_frames, size


class _Tokens(nn.Module):
    """Mean of a video network's tokens; ``argument`` is what it calls a clip (B, T, 3, S, S)."""

    def __init__(self, network: nn.Module, argument: str, **settings: Any):
        super().__init__()
        self.network, self.argument, self.settings = network, argument, settings

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, S, S) to (B, D)."""
        output = self.network(**{self.argument: clips.transpose(1, 2)}, **self.settings)
        return output.last_hidden_state.mean(dim=1)


class _Images(nn.Module):
    """Mean over the frames of an image encoder's vector, which is the one that it is compared by."""

    def __init__(self, network: nn.Module, pooled: bool):
        super().__init__()
        self.network, self.pooled = network, pooled

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, S, S) to (B, D)."""
        batch, _, frames = clips.shape[:3]
        pictures = clips.transpose(1, 2).flatten(0, 1)
        encode = getattr(self.network, "get_image_features", self.network)
        vectors = encode(pixel_values=pictures)
        if not isinstance(vectors, torch.Tensor):
            pooler = getattr(vectors, "pooler_output", None)
            vectors = pooler if self.pooled and pooler is not None else vectors.last_hidden_state.mean(dim=1)
        return vectors.flatten(1).view(batch, frames, -1).mean(dim=1)


def _colours(spec: ExtractorSpec, source: str) -> tuple[Colours, Colours]:
    """The mean and deviation asked for, or the model's own."""
    if spec.normalise:
        return NORMALISATIONS[spec.normalise]
    for name in _PREPROCESSING:
        said = _read_json(source, name)
        said = said.get("image_processor") or said.get("video_processor") or said
        mean, deviation = said.get("image_mean"), said.get("image_std")
        if mean and deviation:
            return tuple(mean), tuple(deviation)
    return NORMALISATIONS[_USUAL_COLOURS[spec.name]]


def _read_json(source: str, name: str) -> dict[str, Any]:
    """A small file of the model, from its folder or the cache; empty if it has none."""
    path = Path(source) / name
    if not Path(source).is_dir():
        cached = import_package("huggingface_hub").try_to_load_from_cache(source, name)
        path = Path(cached) if isinstance(cached, str) else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"can't be read ({error})", where=path, hint="Download the model again.") from None
    return content if isinstance(content, dict) else {}
