"""Loads the authors' programs from their checkouts, untouched, to run beside ours.

Packages that they import and the parts used here never call (plotting, image networks, logging) are replaced
by stand-ins if they aren't installed. Calls of ``.cuda()`` go to the device that is measured. Nothing is
written into a checkout.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

UNUSED = ("joblib", "yaml", "torchvision", "torchvision.models", "matplotlib", "matplotlib.pyplot")

# What the checkouts' configuration files for THUMOS14 (configs/thumos_i3d.yaml and alike) set beside the
# programs' defaults, as far as it concerns a network.
THUMOS = {
    "dataset": {"input_dim": 2048, "num_classes": 20, "max_seq_len": 2304, "feat_stride": 4},
    "model": {"fpn_type": "identity", "max_buffer_len_factor": 6.0},
    "opt": {"learning_rate": 1e-4, "weight_decay": 0.05},
    "train_cfg": {"init_loss_norm": 100, "clip_grad_l2norm": 1.0, "cls_prior_prob": 0.01},
    "test_cfg": {"pre_nms_topk": 2000, "max_seg_num": 200, "min_score": 0.001, "nms_method": "none"},
}
PYRAMIDS = {
    "actionformer": {
        "model": {"n_mha_win_size": 19},
        "train_cfg": {"center_sample": "radius", "center_sample_radius": 1.5},
    },
    "tridet": {
        "model": {
            "backbone_arch": [2, 2, 5],
            "n_sgp_win_size": 1,
            "num_bins": 16,
            "k": 5,
            "iou_weight_power": 0.2,
            "use_trident_head": True,
            "sgp_mlp_dim": 768,
            "input_noise": 0.0005,
        },
        "opt": {"weight_decay": 0.025},
        "train_cfg": {"center_sample": "radius", "center_sample_radius": 1.5},
    },
    "temporalmaxer": {
        "model": {
            "backbone_type": "convPooler",
            "backbone_arch": [2, 5],
            "assigner": {
                "iou_weight": 2,
                "cls_weight": 1.0,
                "center_radius": 1.5,
                "keep_percent": 1.0,
                "confuse_weight": 0.0,
            },
        },
        "train_cfg": {"center_sample": "none"},
    },
}


@contextlib.contextmanager
def cuda_means(device: torch.device) -> Iterator[None]:
    """Inside, ``.cuda()`` of tensors and modules moves to ``device``."""
    with (
        mock.patch.object(torch.Tensor, "cuda", lambda self, *_, **__: self.to(device)),
        mock.patch.object(nn.Module, "cuda", lambda self, *_, **__: self.to(device)),
    ):
        yield


def load(
    checkout: Path, names: Sequence[str], stand_ins: Mapping[str, Any] | None = None
) -> list[ModuleType]:
    """Modules of a checkout; checkouts that use the same names don't get in each other's way."""
    missing = {name: mock.MagicMock() for name in UNUSED if not _installed(name)}
    before = set(sys.modules)
    with (
        mock.patch.object(sys, "path", [str(checkout), *sys.path]),
        mock.patch.object(sys, "argv", [""]),
        mock.patch.object(sys, "dont_write_bytecode", True),
        mock.patch.dict(sys.modules, {**missing, **(stand_ins or {})}),
    ):
        try:
            modules = [importlib.import_module(name) for name in names]
        except ImportError as error:
            sys.exit(f"{checkout} doesn't hold the program expected there, or it needs a package: {error}")
        added = [name for name in sys.modules if name not in before]
        own = {name: sys.modules[name] for name in added if _inside(sys.modules[name], checkout)}
        others = {name: sys.modules[name] for name in added if name not in own and name not in missing}
    sys.modules.update({name: one for name, one in others.items() if name not in (stand_ins or {})})
    return modules


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name.split(".", maxsplit=1)[0]) is not None


def _inside(module: Any, checkout: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(
        isinstance(place, str) and Path(place).is_relative_to(checkout.resolve()) for place in places if place
    )


def options(module: ModuleType) -> dict[str, Any]:
    """The defaults of an ``opts`` module."""
    with mock.patch.object(sys, "argv", [""]):
        return vars(module.parse_opt())


def compiled_nms(checkout: Path) -> Any:
    """The C++ extension ``nms_1d_cpu``, built with the flags of its setup.py; None without a compiler.

    Kept by PyTorch in its own cache, so only the first call takes long.
    """
    if shutil.which("c++") is None or shutil.which("ninja") is None:
        return None
    from torch.utils.cpp_extension import load as build

    source = checkout / "libs" / "utils" / "csrc" / "nms_cpu.cpp"
    return build("nms_1d_cpu", [str(source)], extra_cflags=["-O3", "-fopenmp"])


def nms(checkout: Path) -> ModuleType | None:
    """The module with ``batched_nms`` over compiled code; None without a compiler."""
    extension = compiled_nms(checkout)
    if extension is None:
        return None
    return load(checkout / "libs" / "utils", ["nms"], {"nms_1d_cpu": extension})[0]


class Pyramid:
    """ActionFormer, TriDet or TemporalMaxer by their authors, at the published THUMOS14 settings."""

    def __init__(self, name: str, checkout: Path, device: torch.device):
        names = ["libs.core.config", "libs.modeling", "libs.utils.train_utils"]
        settings, modeling, self.training = load(checkout, names, {"nms_1d_cpu": mock.MagicMock()})
        config = copy.deepcopy(PYRAMIDS[name])
        settings._merge(THUMOS, config)
        settings._merge(copy.deepcopy(settings.DEFAULTS), config)
        self.config = settings._update_config(config)
        self.model = modeling.make_meta_arch(config["model_name"], **config["model"]).to(device)
        self.model.train()
        self.optimizer = self.training.make_optimizer(self.model, config["opt"])
        self.average = self.training.ModelEma(self.model)

    def step(self, videos: list[dict], autocast) -> float:
        """One step as in ``train_one_epoch``."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast():
            losses = self.model(videos)
        losses["final_loss"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config["train_cfg"]["clip_grad_l2norm"])
        self.optimizer.step()
        self.average.update(self.model)
        return losses["final_loss"]

    @torch.no_grad()
    def infer(self, video: dict, autocast):
        """Candidates of one video, without NMS."""
        self.model.eval()
        with autocast():
            return self.model([video])

    @torch.no_grad()
    def outputs(self, video: dict) -> dict[str, list[torch.Tensor]]:
        """What the heads say, level by level, ``(1, T, K)``."""
        model = self.model.eval()
        pyramid = model.neck(*model.backbone(*model.preprocessing([video])))
        heads = {"logits": model.cls_head, "distances": model.reg_head}
        heads |= {
            name: getattr(model, f"{name}_head")
            for name in ("start", "end")
            if hasattr(model, f"{name}_head")
        }
        return {name: [level.permute(0, 2, 1) for level in head(*pyramid)] for name, head in heads.items()}


class Bmn:
    """BMN by JJBOY, at its published settings."""

    def __init__(self, checkout: Path, device: torch.device):
        names = ["opts", "models", "loss_function", "post_processing"]
        opts, models, self.losses, self.post = load(checkout, names)
        self.options, self.device = options(opts), device
        self.model = models.BMN(self.options).to(device)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        rate, decay = self.options["training_lr"], self.options["weight_decay"]
        self.optimizer = torch.optim.Adam(trained, lr=rate, weight_decay=decay)
        self.mask = self.losses.get_mask(self.options["temporal_scale"]).to(device)

    def step(self, features: torch.Tensor, labels: Sequence[torch.Tensor], autocast) -> torch.Tensor:
        """One step on ``(B, D, T)`` features; ``labels`` are the IoU map, start and end."""
        self.model.train()
        with cuda_means(self.device):
            with autocast():
                outputs = self.model(features)
            loss = self.losses.bmn_loss_func(*(part.float() for part in outputs), *labels, self.mask)[0]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def infer(self, features: torch.Tensor, autocast):
        """Confidence map, start and end."""
        self.model.eval()
        with autocast():
            return self.model(features)


class Bsn:
    """BSN by wzmsltw. Python 2: of the parts used here, one integer division has to be carried over."""

    def __init__(self, checkout: Path, device: torch.device):
        opts, models, self.losses, self.post = load(
            checkout, ["opts", "models", "loss_function", "post_processing"]
        )
        self.pgm = _from_text(
            checkout / "pgm.py", {"video_scale / 4 + 10": "video_scale // 4 + 10"}, _interpolation()
        )
        self.options, self.device = options(opts), device
        self.tem, self.pem = models.TEM(self.options).to(device), models.PEM(self.options).to(device)
        self.optimizers = {
            name: torch.optim.Adam(
                getattr(self, name).parameters(),
                lr=self.options[f"{name}_training_lr"],
                weight_decay=self.options[f"{name}_weight_decay"],
            )
            for name in ("tem", "pem")
        }

    def tem_step(self, features: torch.Tensor, labels: Sequence[torch.Tensor]) -> torch.Tensor:
        """One step on ``(B, D, T)`` features with action, start and end labels ``(B, T)``."""
        with cuda_means(self.device):
            loss = self.losses.TEM_loss_function(*labels, self.tem(features), self.options)["cost"]
        return self._step("tem", loss)

    def pem_step(self, features: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
        """One step on ``(N, 32)`` proposal features."""
        with cuda_means(self.device):
            wrapped = SimpleNamespace(module=self.pem)
            loss = self.losses.PEM_loss_function(self.pem(features), iou, wrapped, self.options)
        return self._step("pem", loss)

    def _step(self, name: str, loss: torch.Tensor) -> torch.Tensor:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()
        return loss

    def propose(self, name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Segments (N, 2) in relative time and scores from curves in ``output/TEM_results/NAME.csv``.

        Proposals, features, evaluation and soft-NMS; not its matching with ground truth.
        """
        # Without annotations it skips the matching.
        info = {"duration_frame": 1600, "duration_second": 100.0, "feature_frame": 1600, "annotations": []}
        videos = {name: {**info, "subset": "validation"}}
        with contextlib.chdir(folder):
            self.pgm.generateProposals(self.options, [name], videos)
            self.pgm.generateFeature(self.options, [name], videos)
            table = self.pgm.pandas.read_csv(f"./output/PGM_proposals/{name}.csv")
            table = table[: self.options["pem_top_K_inference"]]
            features = torch.Tensor(np.load(f"./output/PGM_feature/{name}.npy"))
        with torch.no_grad():
            rated = self.pem(features.to(self.device)).view(-1).cpu().numpy()
        table = table.assign(score=rated * table.xmin_score.values * table.xmax_score.values)
        kept = self.post.Soft_NMS(table, self.options).sort_values(by="score", ascending=False)
        kept = kept[: self.options["post_process_top_K"]]
        return kept[["xmin", "xmax"]].values, kept.score.values


def _from_text(path: Path, replace: Mapping[str, str], stand_ins: Mapping[str, Any]) -> ModuleType:
    """A module of a text with replacements."""
    text = path.read_text(encoding="utf-8")
    for old, new in replace.items():
        if old not in text:
            sys.exit(f"{path} isn't the program expected there")
        text = text.replace(old, new)
    module = ModuleType(path.stem)
    with mock.patch.dict(sys.modules, stand_ins):
        exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def _interpolation() -> dict[str, Any]:
    """NumPy's linear interpolation, which is faster, for scipy's where that isn't installed."""
    if _installed("scipy"):
        return {}
    interpolate = ModuleType("scipy.interpolate")
    interpolate.interp1d = lambda x, y, axis: lambda places: np.interp(places, x, y)
    return {"scipy": ModuleType("scipy"), "scipy.interpolate": interpolate}


class Ssn:
    """The heads of SSN by yjxiong, on an image network that returns stored features."""

    WEIGHTS = (0.1, 0.1)  # of the completeness and regression losses, the defaults of ssn_opts.py

    def __init__(self, checkout: Path, num_features: int, num_classes: int, device: torch.device):
        networks = SimpleNamespace(resnet_stored=lambda pretrained: StoredFeatures(num_features))
        stand_ins = {"transforms": mock.MagicMock(), "torchvision": SimpleNamespace(models=networks)}
        stand_ins["torchvision.models"] = networks
        models, ops = load(checkout, ["ssn_models", "ops.ssn_ops"], stand_ins)
        with cuda_means(device), contextlib.redirect_stdout(None), _quiet():
            self.model = models.SSN(
                num_classes, 2, 5, 2, "RGB", base_model="resnet_stored", dropout=0, stpp_cfg=(1, 1, 1)
            ).to(device)
        self.device = device
        self.completeness, self.regression = ops.CompletenessLoss(), ops.ClassWiseRegressionLoss()
        self.optimizer = torch.optim.SGD(
            [weight for weight in self.model.parameters() if weight.requires_grad], lr=1e-3, momentum=0.9
        )

    def step(self, snippets, scaling, labels, targets, kinds) -> torch.Tensor:
        """One step on ``(V, P, 9, D)`` snippets of V videos, 1 foreground and 6 incomplete of P = 8 each."""
        videos, proposals, count, size = snippets.shape
        images = snippets.view(videos, proposals, count, 1, 1, size).expand(-1, -1, -1, 3, -1, -1)
        with cuda_means(self.device), _quiet():
            activity, wanted, complete, complete_label, moved, moved_label, shift = self.model(
                images.reshape(videos, -1, 1, size), scaling, labels, targets, kinds
            )
            loss = nn.functional.cross_entropy(activity, wanted)
            loss = loss + self.WEIGHTS[0] * self.completeness(complete, complete_label, 1, 7)
            loss = loss + self.WEIGHTS[1] * self.regression(moved, moved_label, shift)
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        return loss


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, calls that PyTorch is about to drop are made without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class StoredFeatures(nn.Module):
    """An image network whose images are features: ``(N, 3, 1, D)`` -> ``(N, D)``."""

    def __init__(self, num_features: int):
        super().__init__()
        self.fc = nn.Linear(num_features, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Through the last layer, which SSN replaces."""
        return self.fc(images[:, 0, 0])
