"""TriDet gives the numbers of the reference implementation; tests/golden/tridet/README.md."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from tal_core.models.config import validated
from tal_core.models.pyramid.blocks import read
from tal_core.models.pyramid.points import assign, pad_segments, points
from tal_core.models.pyramid.sgp import Stretch, wide_kernel
from tal_core.models.pyramid.tridet import METHOD, TriDet, TriDetConfig, from_reference
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.training.optimization import make_optimizer
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "tridet"
LEVELS = range(5)
SETTINGS = {
    "embed_dim": 32,
    "head_dim": 40,
    "mlp_dim": 64,
    "levels": 5,
    "sequence_length": 256,
    "regression_bounds": [4, 8, 16, 32],
    "drop_path": 0.0,
    "input_noise": 0.0,
    "min_candidate_score": 0.02,
    "max_candidates": 60,
    "min_score": 0.03,
    "max_detections": 200,
    "voting_threshold": 0.7,
    "voting_weights": "score",
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
    "alttrain_no_center_sampling": {"center_radius": None},
    "alttrain_empty_video0": {},
    "alttrain_label_smoothing_0p1": {"label_smoothing": 0.1},
    "alttrain_auto_loss_weight": {"regression_weight": -1},
}
SCALES = [f"reg_head.scale.{level}.scale" for level in LEVELS]


@pytest.fixture(scope="module")
def case():
    with np.load(GOLDEN / "case.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def weights():
    return safetensors.torch.load_file(GOLDEN / "weights.safetensors")


def make(weights, **settings):
    model = TriDet(TriDetConfig(**{**SETTINGS, **settings}), 48, 5)
    missing, unexpected = model.load_state_dict(from_reference(weights), strict=False)
    assert missing == ["normaliser.value"] and not unexpected
    return model


def nothing():
    return np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


def video(case, number):
    features = torch.from_numpy(case[f"video{number}_feats"].T.copy())
    return features, case[f"video{number}_segments_grid"], case[f"video{number}_labels"]


def batch_of(case, name):
    if name == "long":
        return collate([video(case, 2)])
    first = video(case, 0)
    return collate([(first[0], *nothing()) if name == "alttrain_empty_video0" else first, video(case, 1)])


def features_of(batch):
    return {name: batch[name] for name in ("features", "mask")}


def grid_of(case, number):
    fps, stride = case[f"video{number}_fps"], case[f"video{number}_feat_stride"]
    return TimeGrid(float(stride / fps), float(0.5 * case[f"video{number}_feat_num_frames"] / fps))


def close(ours, expected, tolerance):
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=0, atol=tolerance)


# Network


@pytest.mark.parametrize("name", ["eval", "long"])
def test_pyramid(case, weights, name):
    """With the padding given as features, all of it is run."""
    model, batch = make(weights), batch_of(case, name)
    rest = (256 if name == "eval" else 304) - batch["features"].shape[1]
    with torch.no_grad():
        levels, masks = model.pyramid(
            F.pad(batch["features"], (0, 0, 0, rest)), F.pad(batch["mask"], (0, rest))
        )
        short, short_masks = model.pyramid(batch["features"], batch["mask"])
    for level in LEVELS:
        expected = case[f"{name}_backbone_L{level}"].transpose(0, 2, 1)
        tolerance = 1e-5 * np.abs(expected).max()
        close(levels[level], expected, tolerance)
        close(
            model.neck[level](levels[level]).detach(), case[f"{name}_neck_L{level}"].transpose(0, 2, 1), 1e-4
        )
        assert np.array_equal(masks[level], case[f"{name}_mask_L{level}"])
        cells = short[level].shape[1]
        close(short[level], expected[:, :cells], tolerance)
        assert np.array_equal(short_masks[level], case[f"{name}_mask_L{level}"][:, :cells])


@torch.no_grad()
def run_heads(model, features, mask):
    """All heads on all cells: ``(B, T_l, outputs)`` by the reference's name and level; and the cells."""
    logits, cells, lengths = model(features, mask)
    found = {"cls_logits": logits, "reg_bins": model.heads.distances(cells)}
    found |= {"start_logits": read(model.start, cells), "end_logits": read(model.end, cells)}
    sizes = [length + model.gap for length in lengths]
    return {
        name: [level[:, : -model.gap] for level in part.unflatten(0, (len(features), -1)).split(sizes, 1)]
        for name, part in found.items()
    }, cells


@pytest.mark.parametrize("name", ["eval", "long", "altnet_abs_pe_eval", "altnet_abs_pe_long"])
def test_heads(case, weights, name):
    """Ours end some cells behind the last real one, where the reference pads on with zeros."""
    model = make(weights, position_encoding="abs_pe" in name)
    found, _ = run_heads(model, **features_of(batch_of(case, name.split("_")[-1])))
    for what, levels in found.items():
        for level in LEVELS:
            expected = case[f"{name}_{what}_L{level}"]
            cells = levels[level].shape[1]
            close(levels[level], expected[:, :cells], 5e-5)
            assert not expected[:, cells:].any()


@pytest.mark.parametrize("name", ["eval", "long", "altnet_abs_pe_eval", "altnet_abs_pe_long"])
def test_distances(case, weights, name):
    model = make(weights, position_encoding="abs_pe" in name)
    with torch.no_grad():
        _, cells, _ = model(**features_of(batch_of(case, name.split("_")[-1])))
        index, label = (~cells.invalid[0]).expand(-1, 5).nonzero(as_tuple=True)
        ours = model.distances(cells, index, label)
        few = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:20]
        close(model.distances(cells, index[few], label[few]), ours[few], 1e-5)
    valid = np.concatenate([case[f"{name.split('_')[-1]}_mask_L{level}"] for level in LEVELS], axis=1)
    expected = np.concatenate([case[f"{name}_decoded_offsets_L{level}"] for level in LEVELS], axis=1)
    close(ours, expected[valid].reshape(-1, 2), 1e-4)


@pytest.mark.parametrize("name", ["eval", "long"])
def test_points(case, name):
    table = np.concatenate([case[f"{name}_points_L{level}"] for level in LEVELS])
    lengths = [len(case[f"{name}_points_L{level}"]) for level in LEVELS]
    ours = np.stack(points(lengths, TriDetConfig(**SETTINGS).ranges), axis=1)
    assert np.array_equal(ours.clip(max=10_000), table[:, [0, 3, 1, 2]])


def random_model(**settings):
    torch.manual_seed(0)
    model = TriDet(TriDetConfig(**{**SETTINGS, **settings}), 7, 3)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.mark.parametrize("lengths", [(1,), (30, 31), (129,), (200, 170), (255, 256), (257,)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 5, "window_factor": 1.5, "boundary_kernel_size": 7, "embed_kernel_size": 5},
        {"window_factor": 1.5, "position_encoding": True, "sequence_length": 512, "stem_blocks": 0},
    ],
)
def test_constant_padding_is_counted_and_not_run(lengths, settings):
    model = random_model(**settings)
    clips = [(torch.randn(n, 7), np.array([[0, 0.7 * n]]), np.array([1])) for n in lengths]
    batch = collate(clips)
    longest = max(lengths)
    padded = 512 if "sequence_length" in settings else 256
    if longest > padded:
        padded = -(-longest // model.config.multiple) * model.config.multiple
    whole = {
        **batch,
        "features": F.pad(batch["features"], (0, 0, 0, padded - longest)),
        "mask": F.pad(batch["mask"], (0, padded - longest)),
    }
    ours, expected = (run_heads(model, **features_of(one))[0] for one in (batch, whole))
    for name, levels in ours.items():
        for level, other in zip(levels, expected[name], strict=True):
            torch.testing.assert_close(level, other[:, : level.shape[1]], rtol=1e-4, atol=1e-4)
    gradients = []
    for one in (batch, whole):
        model.zero_grad()
        model.normaliser.value.fill_(100.0)
        model.loss(one)["loss"].backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-5)


def test_short_videos_run_short():
    model = random_model(sequence_length=2048)
    runs = []
    model.embedding.register_forward_hook(lambda module, args, output: runs.append(output.shape[1]))
    model.branch[-1].register_forward_hook(lambda module, args, output: runs.append(output.x.shape[1]))
    model(torch.randn(1, 100, 7), torch.ones(1, 100, dtype=torch.bool))
    assert runs[0] < 130 and runs[1] < 40


def test_halving_is_max_pooling():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 12)
    expected = F.max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    assert torch.equal(Stretch(x, 16, 0, 0).halved(0).x, expected)


def test_wide_kernels():
    assert [wide_kernel(1, 5), wide_kernel(1, 1.5), wide_kernel(15, 1.3), wide_kernel(3, 1.2)] == [
        11,
        3,
        21,
        5,
    ]


# Detections


@pytest.mark.parametrize("number", [0, 1, 2])
@torch.no_grad()
def test_candidates(case, weights, number):
    model, features = make(weights), video(case, number)[0]
    found, _ = model.decode(features)
    prefix = f"infer_video{number}_pre_nms"
    assert [len(level.scores) for level in found] == case[f"{prefix}_count_per_level"].tolist()
    close(torch.cat([level.segments for level in found]), case[f"{prefix}_segments"], 2e-3)
    close(torch.cat([level.scores for level in found]), case[f"{prefix}_scores"], 2e-5)
    assert np.array_equal(torch.cat([level.labels for level in found]), case[f"{prefix}_labels"])


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("setting", ["final", *INFERENCE])
def test_detections(case, weights, number, setting):
    model = make(weights, **INFERENCE.get(setting, {}))
    prefix = f"infer_video{number}_" + (setting if setting == "final" else f"alt_{setting}")
    expected, scores, labels = (case[f"{prefix}_{name}"] for name in ("segments", "scores", "labels"))
    if setting == "none":  # that of the reference sorts nothing
        order = np.argsort(-scores, kind="stable")
        expected, scores, labels = expected[order], scores[order], labels[order]
    found, chances = model.candidates(video(case, number)[0], grid_of(case, number))
    table = post_process_predictions({"v": found}, list("abcde"), suppression(model.config))
    # Ours end with the last snippet, the reference's with the stated duration.
    end = grid_of(case, number).seconds(len(chances) - 0.5)
    close(table[["start", "end"]].clip(upper=end), expected.clip(max=end), 2e-3)
    close(table["score"], scores, 2e-5)
    assert table["label"].tolist() == ["abcde"[k] for k in labels]
    assert chances.shape == (len(video(case, number)[0]), 5)


# Training


@pytest.mark.parametrize("name", TRAINING)
def test_losses(case, weights, name):
    model, batch = make(weights, **TRAINING[name]), batch_of(case, name)
    assert_terms(model.loss(batch), model, case, name)
    if name == "train":
        assert_terms(model.loss(batch), model, case, "train_second_forward")


def assert_terms(terms, model, case, name):
    assert terms["classification"].item() == pytest.approx(case[f"{name}_cls_loss"].item(), rel=1e-5)
    assert terms["regression"].item() == pytest.approx(case[f"{name}_reg_loss"].item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(case[f"{name}_final_loss"].item(), rel=1e-5)
    assert model.normaliser.value.item() == pytest.approx(case[f"{name}_loss_normalizer"].item(), rel=1e-5)


@pytest.mark.parametrize("name", ["train", "alttrain_no_center_sampling", "alttrain_empty_video0"])
def test_assignment(case, weights, name):
    config, batch = TriDetConfig(**{**SETTINGS, **TRAINING[name]}), batch_of(case, name)
    segments, labels = pad_segments(batch["segments"], batch["labels"])
    where = points([256 // 2**level for level in LEVELS], config.ranges)
    targets, distances = assign(where, segments.unsqueeze(1), labels.unsqueeze(1), config.center_radius, 5)
    assert np.array_equal(targets, case[f"{name}_gt_cls"])
    masks = [F.pad(batch["mask"], (0, 256 - batch["mask"].shape[1]))[:, :: 2**level] for level in LEVELS]
    valid = torch.cat(masks, dim=1).numpy()
    assert np.array_equal(valid, case[f"{name}_valid_mask"])
    positive = targets.sum(dim=2).numpy().astype(bool) & valid
    assert np.array_equal(positive, case[f"{name}_pos_mask"])
    assert positive.sum() == case[f"{name}_num_pos"]
    close(distances.numpy()[positive], case[f"{name}_gt_offsets"][positive], 1e-4)


@pytest.mark.parametrize("name", ["alttrain_label_smoothing_0p1", "alttrain_auto_loss_weight"])
def test_other_losses_have_the_same_positives(case, weights, name):
    assert case[f"{name}_num_pos"] == case["train_num_pos"]


def gradient_of(model, name):
    """Our gradient of a reference parameter."""
    named = dict(model.named_parameters())
    if name in SCALES:
        return named["heads.scale"].grad[SCALES.index(name)]
    return named[next(iter(from_reference({name: torch.zeros(1)})))].grad


def test_gradients(case, weights):
    model = make(weights)
    model.loss(batch_of(case, "train"))["loss"].backward()
    names = case["train_grad_names"].tolist()
    assert len(names) == len(list(model.parameters())) + len(SCALES) - 1
    for name, norm in zip(names, case["train_grad_norms"], strict=True):
        if norm > 1e-6:
            assert gradient_of(model, name).norm().item() == pytest.approx(norm, rel=1e-3), name
    total = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    assert total.item() == pytest.approx(case["train_grad_total_norm"].item(), rel=1e-3)
    stored = [name for name in case if name.startswith("train_grad__")]
    assert len(stored) == 12
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


def test_boundary_heads_do_not_teach_the_pyramid():
    model = random_model()
    _, cells, _ = model(torch.randn(1, 40, 7), torch.ones(1, 40, dtype=torch.bool))
    torch.nn.init.zeros_(model.heads.regression.output.weight).requires_grad_(False)
    model.distances(cells, torch.tensor([20]), torch.tensor([0])).sum().backward()
    assert not model.embedding.convs[0].weight.grad.any() and model.start.convs[0].weight.grad.any()


def test_noise_and_left_out_branches_are_for_training_only():
    model = random_model(input_noise=0.5, drop_path=0.5)
    inputs = torch.randn(1, 40, 7), torch.ones(1, 40, dtype=torch.bool)
    assert not torch.equal(model(*inputs)[0], model(*inputs)[0])
    model.eval()
    assert torch.equal(model(*inputs)[0], model(*inputs)[0])


def test_videos_without_annotations_teach_background(case, weights):
    model = make(weights)
    silent = (video(case, 1)[0], *nothing())
    alone = model.loss(collate([silent]))
    assert alone["regression"] == 0 and alone["classification"] > 0
    alone["loss"].backward()
    assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("length", [1, 2, 17, 700])
def test_any_length_and_a_single_class(length):
    model = TriDet(TriDetConfig(**SETTINGS), 6, 1).eval()
    found, scores = model.candidates(torch.randn(length, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (length, 1)
    assert len(found.scores) == len(found.segments) and (np.diff(found.scores) <= 0).all()
    loss = model.loss(collate([(torch.randn(min(length, 256), 6), np.array([[0, 0.9]]), np.array([0]))]))
    assert torch.isfinite(loss["loss"])


def test_resized_videos_keep_their_times():
    model = TriDet(TriDetConfig(**SETTINGS | {"min_candidate_score": 0}, resize=64), 6, 2).eval()
    found, scores = model.candidates(torch.randn(200, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (200, 2) and found.segments.max() > 60


def test_a_checkpoint_without_scales_multiplies_by_one(weights):
    without = {name: value for name, value in weights.items() if "drop_path" not in name}
    state = from_reference({f"module.{name}": value for name, value in without.items()})
    assert torch.equal(state["branch.3.scale_mlp"], torch.ones(32))
    assert set(state) == set(from_reference(weights))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"embed_dim": 30}, "embed_dim can't be 30.*multiple of 16"),
        ({"window": 4}, "window can't be 4.*odd"),
        ({"boundary_kernel_size": 2}, "boundary_kernel_size can't be 2.*odd"),
        ({"bins": 0}, "bins can't be 0.*from 1 to 256"),
        ({"levels": 4}, "regression_bounds has 4 values"),
    ],
)
def test_settings_that_can_not_be(settings, words):
    with pytest.raises(InputError, match=words):
        validated(TriDetConfig, {**SETTINGS, **settings})


def test_the_golden_settings_are_those_tested():
    stated = json.loads((GOLDEN / "config.json").read_text())
    assert set(stated["alternate_inference_settings"]) - {"note"} == set(INFERENCE)
    names = {name.removeprefix("alttrain_") for name in TRAINING} - {"train"}
    assert set(stated["alternate_training"]) - {"note"} == names
    assert METHOD.name == "tridet" and METHOD.config is TriDetConfig
