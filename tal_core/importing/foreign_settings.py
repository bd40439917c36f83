"""Settings of other programs' configs under the names of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tal_core.types import InputError

# Section, key, the authors' default, our setting. The same in all three programs unless said below.
_OFFICIAL = (
    ("loader", "batch_size", 8, "batch_size"),
    ("dataset", "max_seq_len", 2304, "sequence_length"),
    ("dataset", "trunc_thresh", 0.5, "min_overlap"),
    ("model", "embd_dim", 512, "embed_dim"),
    ("model", "head_dim", 512, "head_dim"),
    ("model", "head_num_layers", 3, "head_layers"),
    ("model", "head_kernel_size", 3, "kernel_size"),
    ("train_cfg", "cls_prior_prob", 0.01, "class_prior"),
    ("train_cfg", "init_loss_norm", 2000, "initial_normaliser"),
    ("train_cfg", "label_smoothing", 0.0, "label_smoothing"),
    ("opt", "learning_rate", 1e-3, "learning_rate"),
    ("opt", "weight_decay", 0.0, "weight_decay"),
    ("test_cfg", "pre_nms_thresh", 0.001, "min_candidate_score"),
    ("test_cfg", "pre_nms_topk", 5000, "max_candidates"),
    ("test_cfg", "iou_threshold", 0.1, "nms_threshold"),
    ("test_cfg", "min_score", 0.01, "min_score"),
    ("test_cfg", "max_seg_num", 1000, "max_detections"),
    ("test_cfg", "nms_method", "soft", "nms"),
    ("test_cfg", "nms_sigma", 0.5, "nms_sigma"),
    ("test_cfg", "duration_thresh", 0.05, "min_length"),
    ("test_cfg", "multiclass_nms", True, "nms_per_class"),
    ("test_cfg", "voting_thresh", 0.75, "voting_threshold"),
)
_OF_METHOD = {
    "actionformer": (
        ("model", "n_head", 4, "attention_heads"),
        ("model", "use_abs_pe", False, "position_encoding"),
        ("train_cfg", "droppath", 0.1, "drop_path"),
        ("train_cfg", "dropout", 0.0, "dropout"),
    ),
    "tridet": (
        ("model", "use_abs_pe", False, "position_encoding"),
        ("model", "embd_kernel_size", 3, "embed_kernel_size"),
        ("model", "boudary_kernel_size", 3, "boundary_kernel_size"),
        ("model", "k", 1.5, "window_factor"),
        ("model", "init_conv_vars", 0, "sgp_init"),
        ("model", "num_bins", 16, "bins"),
        ("model", "iou_weight_power", 1.0, "iou_power"),
        ("model", "input_noise", 0, "input_noise"),
        ("model", "sgp_mlp_dim", None, "mlp_dim"),
        ("train_cfg", "droppath", 0.1, "drop_path"),
    ),
    "temporalmaxer": (("model", "fpn_norm", "groupnorm", "neck_norm"),),
}
# The parts of the networks that no official config of these features uses.
_ONLY = {
    "fpn_type": "identity",
    "embd_with_ln": True,
    "fpn_with_ln": True,
    "head_with_ln": True,
    "scale_factor": 2,
    "fpn_start_level": 0,
    "use_rel_pe": False,
    "use_trident_head": True,
    "downsample_type": "max",
    "backbone_type": ("convTransformer", "SGP", "convPooler"),
}


def official_settings(content: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Settings of an official .yaml; keys that it leaves out mean the authors' defaults.

    An empty config leaves everything to our own defaults, which are the published ones for THUMOS14.

    Raises:
        InputError: if a section is no section, or the config asks for a part of the network that isn't here.
    """
    if not content:
        return {"voting_weights": "score"} if method == "tridet" else {}
    parts = {
        name: section(content, name)
        for name in ("dataset", "loader", "model", "train_cfg", "test_cfg", "opt")
    }
    model, train, opt = parts["model"], parts["train_cfg"], parts["opt"]
    _check_only(model)
    table = (*_OFFICIAL, *_OF_METHOD[method])
    settings = {ours: parts[place].get(key, default) for place, key, default, ours in table}
    if settings.get("mlp_dim", 0) is None:
        del settings["mlp_dim"]  # four times embd_dim, as the weights say
    arch = model.get("backbone_arch", (2, 5) if method == "temporalmaxer" else (2, 2, 5))
    settings |= _levels(arch, model.get("regression_range"))
    settings |= _training(parts["dataset"], train, opt)
    if method == "actionformer":
        settings["attention_windows"] = windows(model.get("n_mha_win_size", -1))
    elif method == "tridet":
        settings["window"] = _one_window(model.get("n_sgp_win_size", -1))
        settings["voting_weights"] = "score"
    else:
        settings |= _assigner(section(model, "assigner"))
    return settings


def _training(dataset: Mapping, train: Mapping, opt: Mapping) -> dict[str, Any]:
    low, high = dataset.get("crop_ratio") or (1.0, 1.0)
    warmup = opt.get("warmup_epochs", 5) if opt.get("warmup", True) else 0
    clip, weight = train.get("clip_grad_l2norm", -1), train.get("loss_weight", 1.0)
    central = train.get("center_sample", "radius") == "radius"
    return {
        "crop_low": low,
        "crop_high": high,
        "resize": dataset.get("max_seq_len", 2304) if dataset.get("force_upsampling") else None,
        "warmup_epochs": warmup,
        "epochs": opt.get("epochs", 30) + warmup,
        "schedule": "cosine" if opt.get("schedule_type", "cosine") == "cosine" else "constant",
        "gradient_clip": clip if clip > 0 else None,
        "regression_weight": max(weight, -1),
        "center_radius": train.get("center_sample_radius", 1.5) if central else None,
    }


def _assigner(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "center_radius": said.get("center_radius", 2.5),
        "distance_cost": said.get("iou_weight", 3.0),
        "class_cost": said.get("cls_weight", 1.0),
        "keep_share": said.get("keep_percent", 0.65),
        "confuse_weight": said.get("confuse_weight", 0.1),
    }


# Of networks of one class: the authors take the two best classes of the video and the square root of the
# product (postprocess_results), OpenTAD the classes of its config and all cells as candidates.
OFFICIAL_AGNOSTIC = {"classes": "agnostic", "classes_per_proposal": 2, "score_fusion": "root"}
OPENTAD_AGNOSTIC = {"classes": "agnostic", "min_candidate_score": 0.0, "max_candidates": 100_000}


def opentad_settings(content: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Settings of an OpenTAD config of ActionFormer or TriDet.

    An empty config means the published ones for THUMOS14.

    Raises:
        InputError: if a section is no section, or the config asks for what isn't here.
    """
    common = {"program": "opentad", "voting_weights": "score", "min_length": -1.0}
    if not content:
        return common | {"max_detections": 2000}
    model = section(content, "model")
    projection, head = section(model, "projection"), section(model, "rpn_head")
    settings = common | _opentad_training(content, projection, head) | _opentad_detection(content, method)
    settings |= _opentad_windows(content)
    settings["position_encoding"] = projection.get("use_abs_pe", False)
    settings["sequence_length"] = projection.get("max_seq_len", 2304)
    ranges = section(head, "prior_generator").get("regression_range")
    settings |= _levels(projection.get("arch", (2, 2, 5)), ranges)
    if method == "actionformer":
        attention = section(projection, "attn_cfg")
        settings["attention_heads"] = attention.get("n_head", 4)
        settings["attention_windows"] = windows(attention.get("n_mha_win_size", -1))
    else:
        settings |= {
            "window": _one_window(projection.get("sgp_win_size", 1)),
            "window_factor": projection.get("k", 1.5),
            "sgp_init": projection.get("init_conv_vars", 1),
            "input_noise": projection.get("input_noise", 0.0),
            "iou_power": head.get("iou_weight_power", 0.2),
            "bins": head.get("num_bins", 16),
        }
    return settings


def _opentad_training(content: Mapping, projection: Mapping, head: Mapping) -> dict[str, Any]:
    optimizer, schedule = section(content, "optimizer"), section(content, "scheduler")
    solver = section(content, "solver")
    central, clip = head.get("center_sample", "radius") == "radius", solver.get("clip_grad_norm") or 0
    return {
        "drop_path": projection.get("path_pdrop", 0.0),
        "input_dropout": projection.get("input_pdrop", 0.0),
        "label_smoothing": head.get("label_smoothing", 0),
        "initial_normaliser": head.get("loss_normalizer", 100),
        "regression_weight": max(head.get("loss_weight", 1.0), -1),
        "center_radius": head.get("center_sample_radius", 1.5) if central else None,
        "learning_rate": optimizer.get("lr", 1e-4),
        "weight_decay": optimizer.get("weight_decay", 0.05),
        "warmup_epochs": schedule.get("warmup_epoch", 5),
        "epochs": schedule.get("max_epoch", 35),
        "batch_size": section(solver, "train").get("batch_size", 2),
        "gradient_clip": clip if clip > 0 else None,
    }


def _opentad_detection(content: Mapping, method: str) -> dict[str, Any]:
    """Post-processing; the defaults are those of ``batched_nms`` and of the classifiers of whole videos.

    TriDet's detector leaves the config's threshold and number of candidates unread.
    """
    post = section(content, "post_processing")
    nms, chosen = section(post, "nms"), {} if method == "tridet" else post
    settings = {
        "min_candidate_score": chosen.get("pre_nms_thresh", 0.001),
        "max_candidates": chosen.get("pre_nms_topk", 2000),
        "nms": "soft" if nms.get("use_soft_nms", True) else "hard",
        "nms_sigma": nms.get("sigma", 0.5),
        "nms_per_class": nms.get("multiclass", True),
        "voting_threshold": nms.get("voting_thresh", 0.0),
        "min_score": nms.get("min_score", 0.0),
        "max_detections": nms.get("max_seg_num", 100),
    }
    if (threshold := nms.get("iou_threshold", 0)) > 0:
        settings["nms_threshold"] = threshold
    if external := section(post, "external_cls"):
        settings["classes_per_proposal"] = external.get("topk", 1)
        settings["score_fusion"] = "root" if external.get("type") == "StandardClassifier" else "product"
    return settings


def _opentad_windows(content: Mapping) -> dict[str, Any]:
    """How the config brings videos to the network; only whole videos are read here."""
    test = section(section(content, "dataset"), "test")
    for name, usual, what in (
        ("window_size", None, "detects in sliding windows"),
        ("sample_stride", 1, "leaves out snippets"),
    ):
        if test.get(name, usual) != usual:
            hint = f"Remove {name} from dataset.test to read whole videos, with slightly different results."
            raise InputError(f"{what} ({name}={test[name]}), which isn't imported", hint=hint)
    return {"resize": test["resize_length"]} if "resize_length" in test else {}


def bmn_settings(content: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Settings of JJBOY/BMN's options; proposals get the video's class scores, as published."""
    del method
    names = {
        "temporal_scale": "length",
        "num_sample": "samples",
        "num_sample_perbin": "points",
        "prop_boundary_ratio": "extension",
        "training_lr": "learning_rate",
        "weight_decay": "weight_decay",
        "train_epochs": "epochs",
        "batch_size": "batch_size",
    }
    chosen = {ours: content[theirs] for theirs, ours in names.items() if theirs in content}
    published = {"classifier": "video_scores", "proposal_nms": True, "nms": "none", "propose_to_end": False}
    return published | {"input": "rescale"} | chosen


def section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a config, empty if it isn't there. Raises InputError if it is no section."""
    found = content.get(name) or {}
    if not isinstance(found, Mapping):
        raise InputError(f"{name} in the config is no section", hint="Give the method's own config.")
    return found


def _check_only(model: Mapping[str, Any]) -> None:
    for key, allowed in _ONLY.items():
        choices = allowed if isinstance(allowed, tuple) else (allowed,)
        if key in model and model[key] not in choices:
            what = f"{key}={model[key]} in the config is not supported"
            raise InputError(what, hint=f"Only {' or '.join(map(str, choices))} can be imported.")


def _levels(arch: Any, ranges: Any) -> dict[str, Any]:
    """Layers, levels and regression ranges; the ranges matter to training only."""
    settings: dict[str, Any] = {"embed_layers": arch[0], "levels": arch[-1] + 1}
    if len(arch) == 3:
        settings["stem_blocks"] = arch[1]
    ranges = ranges or [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000)]
    if len(ranges) == settings["levels"]:
        settings["regression_bounds"] = [high for _, high in ranges[:-1]]
        if len(ranges) > 1 and ranges[1][0] > 0:
            settings["range_overlap"] = max(1.0, ranges[0][1] / ranges[1][0])
    return settings


def windows(said: int | list[int]) -> list[int]:
    """Attention windows; 1 and less mean the whole sequence."""
    return [size if size > 1 else -1 for size in ([said] if isinstance(said, int) else said)]


def _one_window(said: int | list[int]) -> int:
    """The window of TriDet's pyramid; the first of a list is that of the stem, which doesn't use it."""
    sizes = {max(1, size) for size in ([said] if isinstance(said, int) else said[1:] or said)}
    if len(sizes) > 1:
        raise InputError(
            f"windows {sorted(sizes)} differ by level", hint="Only one window for all can be imported."
        )
    return sizes.pop()
