"""torchvision's video backbones, without their last layer."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from tal_core.types import InputError
from tal_core.video.extractors.encoders import NORMALISATIONS, TorchEncoder, import_package, read_weights
from tal_core.video.extractors.spec import ExtractorSpec

# The classifier of each network, and what its published weights were trained on.
_HEADS = {
    "r2plus1d_18": ("fc", "kinetics"),
    "s3d": ("classifier", "kinetics"),
    "mvit_v1_b": ("head", "half"),
    "mvit_v2_s": ("head", "half"),
    "swin3d_t": ("head", "imagenet"),
}
_MVIT_CLIP = (16, 224)  # MViT's embeddings of position fix its frames and size


def load(spec: ExtractorSpec, device: torch.device) -> TorchEncoder:
    """The backbone with weights from ``spec.model``, a file, or else from torch's cache.

    Raises:
        InputError: if torchvision or the weights are missing, or the weights are another network's.
    """
    models = import_package("torchvision.models")
    head, colours = _HEADS[spec.name]
    network = models.get_model(spec.name, weights=None)
    setattr(network, head, nn.Identity())
    path = Path(spec.model).expanduser() if spec.model else _cached(models, spec.name)
    weights = {k: v for k, v in read_weights(path).items() if not k.startswith(f"{head}.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        what = f"are not weights of torchvision's {spec.name} ({reason[:200]})"
        raise InputError(what, where=path, hint="Choose the file of this network.") from error
    fixed = spec.name.startswith("mvit")
    frames, size = _MVIT_CLIP if fixed else (spec.clip_frames, spec.clip_size)
    return TorchEncoder(
        network, spec, device, frames=frames, size=size, colours=NORMALISATIONS[colours], source=path
    )


def _cached(models: ModuleType, name: str) -> Path:
    """Where torch's cache has the published weights. Raises InputError if it hasn't."""
    url = models.get_model_weights(name).DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        what = f"the weights of {name} are not on this machine"
        hint = f"Nothing is downloaded by itself: get {url}, and put it there or give its path as model=PATH."
        raise InputError(what, where=path, hint=hint)
    return path
