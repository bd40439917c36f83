"""TemporalMaxer gives the numbers of the reference implementation; tests/golden/temporalmaxer/README.md."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from tal_core.models.config import validated
from tal_core.models.pyramid.points import pad_segments, points
from tal_core.models.pyramid.temporalmaxer import (
    METHOD,
    TemporalMaxer,
    TemporalMaxerConfig,
    assign,
    from_reference,
    halve,
    padded_group_norm,
    surroundings,
)
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.postprocessing.nms import suppress
from tal_core.training.optimization import make_optimizer
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "temporalmaxer"
SETTINGS = {
    "embed_dim": 32,
    "head_dim": 40,
    "levels": 5,
    "sequence_length": 256,
    "regression_bounds": [4, 8, 16, 32],
    "min_candidate_score": 0.02,
    "max_candidates": 60,
    "min_score": 0.03,
    "voting_threshold": 0.7,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
}
INFERENCE = {
    "soft_multiclass": {},
    "soft_agnostic_vote": {"nms_per_class": False},
    "soft_agnostic_novote": {"nms_per_class": False, "voting_threshold": 0.0},
    "hard_multiclass": {"nms": "hard", "nms_threshold": 0.4},
    "hard_agnostic_vote": {"nms": "hard", "nms_per_class": False, "nms_threshold": 0.4},
    "none": {"nms": "none", "min_score": 0.0, "max_detections": 100_000},
    "short_list": {"min_candidate_score": 0.05, "max_candidates": 25, "max_detections": 12},
}
TRAINING = {
    "train": {},
    "alttrain_keep_half": {"keep_share": 0.5, "confuse_weight": 0.2},
    "alttrain_label_smoothing_0p1": {"label_smoothing": 0.1},
    "alttrain_auto_loss_weight": {"regression_weight": -1},
}
# Where the same parameter is stored in another shape or under another name, see `from_reference`.
SCALES = [f"reg_head.scale.{level}.scale" for level in range(5)]


@pytest.fixture(scope="module")
def case():
    with np.load(GOLDEN / "case.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def weights():
    return safetensors.torch.load_file(GOLDEN / "weights.safetensors")


def make(weights, settings=None, layer_norm=None):
    config = TemporalMaxerConfig(**{**SETTINGS, **(settings or {})})
    model = TemporalMaxer(config, 48, 5)
    state = dict(weights)
    if layer_norm is not None:
        for level in range(5):
            state |= {f"neck.fpn_norms.{level}.{name}": value for name, value in layer_norm.items()}
    missing, unexpected = model.load_state_dict(from_reference(state), strict=False)
    assert missing == ["normaliser.value"] and not unexpected
    return model


def video(case, number):
    return (
        torch.from_numpy(case[f"video{number}_feats"].T.copy()),
        case[f"video{number}_segments_grid"],
        case[f"video{number}_labels"],
    )


def batch_of(case, name):
    return collate([video(case, 0), video(case, 1)] if name != "long" else [video(case, 2)])


def grid_of(case, number):
    fps, stride = case[f"video{number}_fps"], case[f"video{number}_feat_stride"]
    return TimeGrid(float(stride / fps), float(0.5 * case[f"video{number}_feat_num_frames"] / fps))


def close(ours, expected, tolerance):
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=0, atol=tolerance)


# Network


@pytest.mark.parametrize("name", ["eval", "long"])
def test_network(case, weights, name):
    model, batch = make(weights), batch_of(case, name)
    longest = batch["features"].shape[1]
    # Everything that the reference runs, padding included.
    padded = 256 if name == "eval" else 304
    rest = padded - longest
    features = F.pad(batch["features"], (0, 0, 0, rest))
    mask = F.pad(batch["mask"], (0, rest))
    with torch.no_grad():
        levels, masks = model.pyramid(features, mask)
        necks = model.normalised(levels, padded)
        outputs = run_heads(model, batch)
    where = points([level.shape[1] for level in levels], model.config.ranges)
    table = np.concatenate([case[f"{name}_points_L{level}"] for level in range(5)])
    assert np.array_equal(np.stack(where, axis=1).clip(max=10_000), table[:, [0, 3, 1, 2]])
    for level in range(5):
        close(levels[level].transpose(1, 2), case[f"{name}_backbone_L{level}"], 5e-5)
        close(necks[level].transpose(1, 2), case[f"{name}_neck_L{level}"], 5e-5)
        assert np.array_equal(masks[level], case[f"{name}_mask_L{level}"])
        same_outputs(outputs, case, name, level)


class Outputs(NamedTuple):
    """``logits`` (B, T_l, K), ``distances`` (B, T_l, 2) and ``masks`` (B, T_l) of each level."""

    logits: list[torch.Tensor]
    distances: list[torch.Tensor]
    masks: list[torch.Tensor]


def run_heads(model, batch):
    logits, cells, lengths = model(batch["features"], batch["mask"])
    parts = (logits, model.heads.distances(cells), ~cells.invalid[0])
    parts = (part.view(len(batch["mask"]), -1, part.shape[1]) for part in parts)
    levels = (part.split([length + model.gap for length in lengths], dim=1) for part in parts)
    logits, distances, valid = ([part[:, :n] for part, n in zip(one, lengths, strict=True)] for one in levels)
    return Outputs(logits, distances, [level.squeeze(2) for level in valid])


def same_outputs(outputs, case, name, level):
    """Ours end some cells behind the last real one, where the reference pads on with zeros."""
    for ours, what in ((outputs.logits, "cls_logits"), (outputs.distances, "reg_offsets")):
        expected = case[f"{name}_{what}_L{level}"]
        length = ours[level].shape[1]
        close(ours[level], expected[:, :length], 5e-5)
        assert not expected[:, length:].any()
    assert np.array_equal(outputs.masks[level], case[f"{name.split('_')[-1]}_mask_L{level}"][:, :length])


@pytest.mark.parametrize("name", ["eval", "long"])
def test_network_with_layer_norm(case, weights, name):
    norm = {n: torch.from_numpy(case[f"altnet_neck_layernorm_{n}"]) for n in ("weight", "bias")}
    model, batch = make(weights, {"neck_norm": "layernorm"}, norm), batch_of(case, name)
    with torch.no_grad():
        outputs = run_heads(model, batch)
    for level in range(5):
        same_outputs(outputs, case, f"altnet_neck_layernorm_{name}", level)


@pytest.mark.parametrize("lengths", [(1,), (30, 31), (129,), (231, 140), (255, 256), (257,), (304,)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_short_padding_equals_full_padding(lengths, kernel):
    torch.manual_seed(0)
    config = TemporalMaxerConfig(**SETTINGS, kernel_size=kernel)
    short, full = TemporalMaxer(config, 7, 3), TemporalMaxer(config, 7, 3)
    for weight in short.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    full.load_state_dict(short.state_dict())
    full._run_length = lambda length, padded: padded
    clips = [(torch.randn(n, 7), np.array([[0, 0.7 * n]]), np.array([1])) for n in lengths]
    batch = collate(clips)
    ours, expected = run_heads(short, batch), run_heads(full, batch)
    for level in range(5):
        length = ours.logits[level].shape[1]
        assert length <= expected.logits[level].shape[1]
        for a, b in ((ours.logits, expected.logits), (ours.distances, expected.distances)):
            torch.testing.assert_close(a[level], b[level][:, :length], rtol=1e-4, atol=1e-4)
            assert not b[level][:, length:].any()
    terms, all_terms = short.loss(batch), full.loss(batch)
    terms["loss"].backward()
    all_terms["loss"].backward()
    assert terms["loss"].item() == pytest.approx(all_terms["loss"].item(), rel=1e-5)
    for a, b in zip(short.parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(b.grad.abs().max()) + 1e-6)


def test_pooling_and_group_norm_are_those_of_torch():
    torch.manual_seed(0)
    x = torch.rand(2, 16, 12)
    expected = F.max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    assert torch.equal(halve(x), expected)
    behind = torch.randn(12)
    whole = torch.cat([x, behind.expand(2, 20, 12)], dim=1)
    expected = F.group_norm(whole.transpose(1, 2), 4).transpose(1, 2)[:, :16]
    torch.testing.assert_close(padded_group_norm(x, 36, behind), expected)


# Detections


@pytest.mark.parametrize("number", [0, 1, 2])
def test_candidates(case, weights, number):
    model = make(weights)
    with torch.no_grad():
        found, _ = model.decode(video(case, number)[0])
    prefix = f"infer_video{number}_pre_nms"
    assert [len(level.scores) for level in found] == case[f"{prefix}_count_per_level"].tolist()
    close(torch.cat([level.segments for level in found]), case[f"{prefix}_segments"], 2e-3)
    close(torch.cat([level.scores for level in found]), case[f"{prefix}_scores"], 2e-5)
    assert np.array_equal(torch.cat([level.labels for level in found]), case[f"{prefix}_labels"])


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("setting", ["final", *INFERENCE])
def test_detections(case, weights, number, setting):
    model = make(weights, INFERENCE.get(setting))
    prefix = f"infer_video{number}_" + (setting if setting == "final" else f"alt_{setting}")
    expected = case[f"{prefix}_segments"]
    found, scores = model.candidates(video(case, number)[0], grid_of(case, number))
    if setting == "none":  # that of the reference sorts nothing
        order = np.argsort(-case[f"{prefix}_scores"], kind="stable")
        expected, close_scores = expected[order], case[f"{prefix}_scores"][order]
        labels = case[f"{prefix}_labels"][order]
    else:
        close_scores, labels = case[f"{prefix}_scores"], case[f"{prefix}_labels"]
    table = post_process_predictions({"v": found}, list("abcde"), suppression(model.config))
    # Ours end with the last snippet, the reference's with the stated duration.
    end = grid_of(case, number).seconds(len(scores) - 0.5)
    close(table[["start", "end"]].clip(upper=end), expected.clip(max=end), 2e-3)
    close(table["score"], close_scores, 2e-5)
    assert table["label"].tolist() == ["abcde"[k] for k in labels]
    assert scores.shape == (len(video(case, number)[0]), 5)


# Training


@pytest.mark.parametrize("name", TRAINING)
def test_losses(case, weights, name):
    model = make(weights, TRAINING[name])
    terms = model.loss(batch_of(case, "train"))
    assert_terms(terms, model, case, name)
    if name == "train":
        assert_terms(model.loss(batch_of(case, "train")), model, case, "train_second_forward")


def assert_terms(terms, model, case, name):
    assert terms["classification"].item() == pytest.approx(case[f"{name}_cls_loss"].item(), rel=1e-5)
    assert terms["regression"].item() == pytest.approx(case[f"{name}_reg_loss"].item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(case[f"{name}_final_loss"].item(), rel=1e-5)
    assert model.normaliser.value.item() == pytest.approx(case[f"{name}_loss_normalizer"].item(), rel=1e-5)


def place_of(outputs, padded=256):
    """Where the reference, which pads to the end, keeps our points."""
    starts = np.cumsum([0, *(padded // 2**level for level in range(4))])
    return np.concatenate(
        [start + np.arange(mask.shape[1]) for start, mask in zip(starts, outputs.masks, strict=True)]
    )


@pytest.mark.parametrize("name", ["train", "alttrain_keep_half"])
def test_assignment(case, weights, name):
    model, batch = make(weights, TRAINING[name]), batch_of(case, name)
    with torch.no_grad():
        outputs = run_heads(model, batch)
    logits, distances, valid = (torch.cat(parts, dim=1) for parts in outputs)
    where = points([mask.shape[1] for mask in outputs.masks], model.config.ranges)
    segments, labels = pad_segments(batch["segments"], batch["labels"])
    around = surroundings(where, segments, valid, model.config.center_radius)
    found = assign(around, labels, logits, distances, model.config)
    at = place_of(outputs)
    assert np.array_equal(valid, case[f"{name}_valid_mask"][:, at])
    positive = around.candidates.any(dim=2).numpy()
    assert np.array_equal(positive, case[f"{name}_pos_mask"][:, at])
    weights_of = case[f"{name}_pos_weights"]
    close(found.weights[valid], weights_of[:, at][valid.numpy()], 0)
    assert positive.sum() == case[f"{name}_num_pos"]
    targets = case[f"{name}_gt_cls"][:, at]
    ours = np.zeros_like(targets)
    for row, point, segment in np.argwhere(around.candidates.numpy()):
        ours[row, point, batch["labels"][row][segment]] = 1
    assert np.array_equal(ours, targets)
    close(found.distances.numpy()[positive], case[f"{name}_gt_offsets"][:, at][positive], 1e-4)
    for row in (0, 1):
        count = len(batch["segments"][row])
        matrix = case[f"{name}_assign_matrix_video{row}"]
        assert np.array_equal(around.candidates[row, :, :count], matrix[at] > 0)
        assert not around.candidates[row, :, count:].any()
        assert np.array_equal(found.cheapest[row], case[f"{name}_assign_argmin_video{row}"][at])
        expected = case[f"{name}_assign_cost_video{row}"]
        close(
            found.cost[row][valid[row], :count],
            expected,
            1e-4 * max(1, expected[np.isfinite(expected)].max()),
        )


def gradient_of(model, name):
    """Our gradient of a reference parameter."""
    named = dict(model.named_parameters())
    if name in SCALES:
        return named["heads.scale"].grad[SCALES.index(name)]
    ours = next(iter(from_reference({name: torch.zeros(1)})))
    return named[ours].grad


def test_gradients(case, weights):
    model = make(weights)
    model.loss(batch_of(case, "train"))["loss"].backward()
    for name, norm in zip(case["train_grad_names"], case["train_grad_norms"], strict=True):
        if norm > 1e-6:
            assert gradient_of(model, name).norm().item() == pytest.approx(norm, rel=1e-3), name
    total = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    assert total.item() == pytest.approx(case["train_grad_total_norm"].item(), rel=1e-3)
    stored = [name for name in case if name.startswith("train_grad__")]
    assert len(stored) == 9
    for name in stored:
        expected = case[name]
        ours = gradient_of(model, name.removeprefix("train_grad__")).reshape(expected.shape)
        close(ours, expected, 1e-3 * np.abs(expected).max())


def test_weight_decay_spares_what_the_reference_spares(case, weights):
    model = make(weights)
    ours = dict(model.named_parameters())
    decayed, spared = (set(map(id, g["params"])) for g in make_optimizer(model, model.config).param_groups)
    for name in (*case["optim_decay_names"], *case["optim_no_decay_names"]):
        translated = "heads.scale" if name in SCALES else next(iter(from_reference({name: torch.zeros(1)})))
        assert id(ours[translated]) in (decayed if name in case["optim_decay_names"] else spared), name


def test_trajectory(case, weights):
    model, batch = make(weights), batch_of(case, "train")
    optimizer = make_optimizer(model, model.config)
    for step in range(4):
        terms = model.loss(batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses = [terms[name].item() for name in ("classification", "regression", "loss")]
        assert losses == pytest.approx(case["traj_losses"][step].tolist(), rel=1e-4)
        assert norm.item() == pytest.approx(case["traj_grad_total_norm"][step], rel=1e-3)
        assert model.normaliser.value.item() == pytest.approx(case["traj_loss_normalizer"][step], rel=1e-5)


# What the reference can't


def nothing():
    return np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


def test_videos_without_annotations_teach_background(case, weights):
    model = make(weights)
    silent = (video(case, 1)[0], *nothing())
    alone = model.loss(collate([silent]))
    assert alone["regression"] == 0 and alone["classification"] > 0
    alone["loss"].backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
    together = make(weights).loss(collate([video(case, 0), silent]))
    lone = make(weights).loss(collate([video(case, 0)]))
    assert together["regression"].item() == pytest.approx(lone["regression"].item(), rel=1e-5)


def test_segments_of_other_videos_are_no_candidates(case, weights):
    """The shorter list of a batch is filled up with segments that mean nothing."""
    model = make(weights)
    one = (torch.randn(3, 48), np.array([[0, 2.0]], np.float32), np.array([2]))
    alone = make(weights).loss(collate([one]))["loss"].item()
    silent = (torch.zeros(1, 48), *nothing())
    assert np.isfinite(model.loss(collate([one, video(case, 0), silent]))["loss"].item())
    padded = (one[0], np.concatenate([one[1], np.zeros((5, 2), np.float32)]), np.array([2, 0, 0, 0, 0, 0]))
    assert make(weights).loss(collate([padded]))["loss"].item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("length", [1, 2, 17, 700])
def test_any_length_and_a_single_class(length):
    model = TemporalMaxer(TemporalMaxerConfig(**SETTINGS), 6, 1).eval()
    found, scores = model.candidates(torch.randn(length, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (length, 1)
    assert len(found.scores) == len(found.segments) and (np.diff(found.scores) <= 0).all()
    assert (found.segments >= 0).all() and (found.segments <= length * 0.5).all()
    loss = model.loss(collate([(torch.randn(min(length, 256), 6), np.array([[0, 0.9]]), np.array([0]))]))
    assert torch.isfinite(loss["loss"])


def test_resized_videos_keep_their_times():
    model = TemporalMaxer(
        TemporalMaxerConfig(**SETTINGS | {"min_candidate_score": 0}, resize=64), 6, 2
    ).eval()
    torch.nn.init.constant_(model.heads.regression.output.bias, 1.0)
    found, scores = model.candidates(torch.randn(200, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (200, 2) and found.segments.max() > 60


@pytest.mark.parametrize("length", [64, 65, 96, 97, 130, 333])
def test_windows_find_what_is_found_at_once(length):
    """Where a window's middle sees no further than its ends; the norm must not see all of time."""
    torch.manual_seed(0)
    near = {"levels": 2, "regression_bounds": [4], "embed_layers": 1, "head_layers": 2}
    settings = (
        SETTINGS | near | {"neck_norm": "layernorm", "min_candidate_score": 0, "max_candidates": 10_000}
    )
    whole = TemporalMaxer(TemporalMaxerConfig(**settings), 6, 3).eval()
    parts = TemporalMaxer(TemporalMaxerConfig(**settings, detection_window=64), 6, 3).eval()
    torch.nn.init.normal_(whole.heads.regression.output.bias)
    parts.load_state_dict(whole.state_dict())
    features, grid = torch.randn(length, 6), TimeGrid(0.5, 0.25)
    (one, scores), (other, again) = (model.candidates(features, grid) for model in (whole, parts))

    def rows(found):
        table = np.column_stack([found.labels, found.segments, found.scores])
        return table[np.lexsort(table.round(4).T[::-1])]

    assert len(one) == len(other) > 3 * length
    np.testing.assert_allclose(rows(one), rows(other), atol=1e-4)
    torch.testing.assert_close(scores, again)


def test_settings_that_contradict_each_other():
    with pytest.raises(InputError, match=r"detection_window can't be 100: .* multiple of 64, such as 128"):
        validated(TemporalMaxerConfig, {**SETTINGS, "detection_window": 100})
    with pytest.raises(InputError, match=r"embed_dim can't be 30: .*multiple of 4"):
        validated(TemporalMaxerConfig, {**SETTINGS, "embed_dim": 30})
    validated(TemporalMaxerConfig, {**SETTINGS, "embed_dim": 30, "neck_norm": "layernorm"})
    assert METHOD.config().ranges[0] == (0, 4)


def test_the_golden_settings_are_those_tested():
    stated = json.loads((GOLDEN / "config.json").read_text())
    assert set(stated["alternate_inference_settings"]) - {"note"} == set(INFERENCE)
    assert set(stated["alternate_training"]) - {"note"} == {
        name.removeprefix("alttrain_") for name in TRAINING if name != "train"
    }


def test_suppression_runs_on_what_the_network_says(case, weights):
    """In grid units and before anything is cut, as the reference does."""
    model = make(weights)
    with torch.no_grad():
        found, _ = model.decode(video(case, 0)[0])
    joined = [torch.cat(parts).numpy() for parts in zip(*found, strict=True)]
    kept = suppress(*joined, suppression(model.config))
    seconds = grid_of(case, 0).seconds(kept.segments).clip(0, case["video0_duration"])
    close(seconds, case["infer_video0_final_segments"], 2e-3)
