"""ActionFormer gives the numbers of the reference implementation; tests/golden/actionformer/README.md."""

import numpy as np
import pytest
import safetensors.torch
import torch

from tal_core.models.config import validated
from tal_core.models.pyramid import actionformer
from tal_core.models.pyramid.actionformer import METHOD, ActionFormer, ActionFormerConfig, from_reference
from tal_core.models.pyramid.attention import local_attention
from tal_core.models.pyramid.points import assign, pad_segments, points
from tal_core.models.pyramid.slots import lay_out
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.training.optimization import make_optimizer
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "actionformer"
LEVELS = range(5)
SETTINGS = {
    "embed_dim": 32,
    "head_dim": 40,
    "levels": 5,
    "sequence_length": 256,
    "attention_windows": [9],
    "regression_bounds": [4, 8, 16, 32],
    "min_candidate_score": 0.02,
    "max_candidates": 60,
    "min_score": 0.03,
    "max_detections": 200,
    "voting_threshold": 0.7,
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
NETWORKS = {
    "": {},
    "altnet_abs_pe_": {"position_encoding": True},
    "altnet_global_top_": {"attention_windows": [9, 9, 9, 9, -1]},
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
    """The network with nothing random in it, its residual scales kept."""
    model = ActionFormer(ActionFormerConfig(**{**SETTINGS, **settings}), 48, 5)
    missing, unexpected = model.load_state_dict(from_reference(weights), strict=False)
    assert missing == ["normaliser.value"] and not unexpected
    for block in (*model.stem, *model.branch):
        block.drop_path = 0.0
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


def grid_of(case, number):
    fps, stride = case[f"video{number}_fps"], case[f"video{number}_feat_stride"]
    return TimeGrid(float(stride / fps), float(0.5 * case[f"video{number}_feat_num_frames"] / fps))


def close(ours, expected, tolerance):
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=0, atol=tolerance)


# Network


@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_pyramid(case, weights, name):
    model, batch = make(weights), batch_of(case, name)
    layout = model.lay_out(batch["mask"])
    for number, x in enumerate(model.pyramid(batch["features"], layout)):
        level = layout.levels[number]
        mask = case[f"{name}_mask_L{number}"]
        assert level.lengths == mask.sum(axis=1).tolist()
        for row, length in enumerate(level.lengths):
            assert mask[row, :length].all()
        for part, cells in (("backbone", x), ("neck", model.neck[number](x))):
            expected = case[f"{name}_{part}_L{number}"].transpose(0, 2, 1)
            for row, ours in enumerate(level.split(cells[0])):
                close(ours, expected[row, : len(ours)], 5e-5)
            padding = cells[0][level.invalid & ~level.gap]
            if len(padding):  # the same everywhere, and so is the reference's
                close(padding, np.broadcast_to(expected[0, -1], padding.shape), 1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_heads(case, weights, network, name):
    logits, distances, layout = run_heads(make(weights, **NETWORKS[network]), batch_of(case, name))
    for ours, theirs in ((logits, "cls_logits"), (distances, "reg_offsets")):
        assert not ours[layout.invalid].any()
        for row in range(len(layout.levels[0].slots)):
            for number, part in enumerate(layout.of_video(ours, row)):
                expected = case[f"{network}{name}_{theirs}_L{number}"][row]
                close(part, expected[: len(part)], 5e-5)
                assert not expected[len(part) :].any()


def run_heads(model, batch):
    """Logits and distances of all cells, and where they are."""
    logits, cells, layout = model(**features_of(batch))
    return logits, model.heads.distances(cells), layout


def features_of(batch):
    return {name: batch[name] for name in ("features", "mask")}


@pytest.mark.parametrize("name", ["eval", "long"])
def test_points(case, name):
    table = np.concatenate([case[f"{name}_points_L{level}"] for level in LEVELS])
    lengths = [len(case[f"{name}_points_L{level}"]) for level in LEVELS]
    ours = np.stack(points(lengths, ActionFormerConfig(**SETTINGS).ranges), axis=1)
    assert np.array_equal(ours.clip(max=10_000), table[:, [0, 3, 1, 2]])


# Detections


@pytest.mark.parametrize("number", [0, 1, 2])
@torch.no_grad()
def test_candidates(case, weights, number):
    model = make(weights)
    found, _ = model.decode(video(case, number)[0])
    prefix = f"infer_video{number}_pre_nms"
    assert [len(level.scores) for level in found] == case[f"{prefix}_count_per_level"].tolist()
    close(torch.cat([level.segments for level in found]), case[f"{prefix}_segments"], 2e-3)
    close(torch.cat([level.scores for level in found]), case[f"{prefix}_scores"], 2e-5)
    assert np.array_equal(torch.cat([level.labels for level in found]), case[f"{prefix}_labels"])


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("setting", ["final", *INFERENCE])
def test_detections(case, weights, number, setting):
    model = make(weights, **INFERENCE.get(setting, {})).eval()
    prefix = f"infer_video{number}_" + (setting if setting == "final" else f"alt_{setting}")
    expected, scores, labels = (case[f"{prefix}_{name}"] for name in ("segments", "scores", "labels"))
    if setting == "none":  # that of the reference sorts nothing
        order = np.argsort(-scores, kind="stable")
        expected, scores, labels = expected[order], scores[order], labels[order]
    found, chances = model.candidates(video(case, number)[0], grid_of(case, number))
    table = post_process_predictions({"v": found}, list("abcde"), suppression(model.config))
    # Ours end with the last snippet, the reference's with the stated duration.
    end = min(found.end, case[f"video{number}_duration"])
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
    assert model.normaliser.value.item() == pytest.approx(case[f"{name}_loss_normalizer"].item(), rel=1e-6)


@pytest.mark.parametrize("name", TRAINING)
def test_assignment(case, weights, name):
    model, batch = make(weights, **TRAINING[name]), batch_of(case, name)
    layout = model.lay_out(batch["mask"])
    targets, distances = model.targets(layout, batch["segments"], batch["labels"])
    positive = ~layout.invalid & (targets.sum(dim=1) > 0)
    assert positive.sum() == case[f"{name}_num_pos"]
    if f"{name}_gt_cls" not in case:
        return
    for row in range(2):
        valid = case[f"{name}_valid_mask"][row]
        ours = [torch.cat(layout.of_video(part, row)) for part in (targets, positive, distances)]
        assert np.array_equal(ours[0], case[f"{name}_gt_cls"][row, valid])
        chosen = case[f"{name}_pos_mask"][row, valid]
        assert np.array_equal(ours[1], chosen) and not case[f"{name}_pos_mask"][row, ~valid].any()
        close(ours[2][chosen], case[f"{name}_gt_offsets"][row, valid][chosen], 1e-4)


@pytest.mark.parametrize("name", ["train", "alttrain_no_center_sampling"])
def test_assignment_of_padding(case, name):
    config, batch = ActionFormerConfig(**{**SETTINGS, **TRAINING[name]}), batch_of(case, name)
    segments, labels = pad_segments(batch["segments"], batch["labels"])
    where = points([256 // 2**level for level in LEVELS], config.ranges)
    targets, _ = assign(where, segments.unsqueeze(1), labels.unsqueeze(1), config.center_radius, 5)
    assert np.array_equal(targets, case[f"{name}_gt_cls"])


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
    assert len(stored) == 11
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


def random_model(num_classes=3, **settings):
    torch.manual_seed(0)
    model = ActionFormer(ActionFormerConfig(**{**SETTINGS, **settings}), 7, num_classes)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


PADDINGS = [
    {},
    {"kernel_size": 5, "attention_windows": [3, 9, 5, -1, 9]},
    {"stem_blocks": 0, "position_encoding": True, "sequence_length": 512},
    {"levels": 1, "regression_bounds": [], "embed_layers": 1, "head_layers": 1, "kernel_size": 1},
]


def fully_padded(lengths, padded, levels, reach, device):
    return lay_out(lengths, padded, levels, max(padded), device)


@pytest.mark.parametrize("settings", PADDINGS)
@pytest.mark.parametrize(
    "lengths", [(1,), (30, 31), (129, 1, 2), (200, 170), (255, 256), (256, 256, 17), (257,)]
)
def test_a_few_cells_of_padding_do_as_well_as_all(lengths, settings, monkeypatch):
    # Rounding in float32 now and then flips a ReLU.
    model = random_model(**settings, drop_path=0.0).double()
    clips = [(torch.randn(n, 7), np.array([[-0.2, 0.7 * n]]), np.array([1])) for n in lengths]
    batch = collate(clips)
    batch["features"] = batch["features"].double()
    runs = []
    for reach in (None, 300):
        if reach:
            monkeypatch.setattr(
                actionformer,
                "lay_out",
                lambda n, full, levels, _, device: lay_out(n, full, levels, 300, device),
            )
        *outputs, layout = run_heads(model, batch)
        model.zero_grad()
        model.normaliser.value.fill_(100.0)
        terms = model.loss(batch)
        terms["loss"].backward()
        cells = [part[:, ~layout.invalid] for part in (outputs[0].T, outputs[1].T)]
        runs.append([*cells, terms["loss"], *(weight.grad for weight in model.parameters())])
    assert len(outputs[0]) > sum(max(256, n) for n in lengths)
    for ours, expected in zip(*runs, strict=True):
        torch.testing.assert_close(
            ours, expected, rtol=1e-3, atol=1e-4 * float(expected.detach().abs().max()) + 1e-5
        )


@pytest.mark.parametrize("settings", PADDINGS[:3])
def test_videos_do_not_see_each_other(settings):
    model = random_model(**settings).eval()
    clips = [(torch.randn(n, 7), *nothing()) for n in (256, 3, 90)]
    *together, layout = run_heads(model, collate(clips))
    for row, one in enumerate(clips):
        *alone, its_layout = run_heads(model, collate([one]))
        for ours, expected in zip(together, alone, strict=True):
            ours = torch.cat(layout.of_video(ours, row))
            torch.testing.assert_close(ours, torch.cat(its_layout.of_video(expected)), rtol=1e-4, atol=1e-4)


def test_short_videos_run_short():
    model = random_model(sequence_length=2048)
    layout = model.lay_out(torch.arange(2000) < torch.tensor([[40], [1000]]))
    assert len(layout.levels[0].video) < 40 + 1000 + 5 * 16
    assert sum(layout.levels[0].lengths) == 1040


@pytest.mark.parametrize("lengths", [[1], [70, 3], [64, 65, 128], [500, 2, 300]])
@pytest.mark.parametrize("reach", [1, 4, 100])
def test_local_attention_is_attention_to_near_cells(lengths, reach):
    level = lay_out(lengths, [512] * len(lengths), 3, 1, "cpu").levels[0]
    torch.manual_seed(0)
    inputs = torch.randn(3, len(level.video), 2, 5, dtype=torch.float64, requires_grad=True)
    found = level.split(local_attention(*inputs, level, reach))
    expected = []
    for q, k, v in zip(*map(level.split, inputs), strict=True):
        near = (torch.arange(len(q)) - torch.arange(len(q))[:, None]).abs() <= reach
        scores = torch.einsum("qhc,khc->hqk", q, k) / 5**0.5
        weights = scores.masked_fill(~near, -torch.inf).softmax(dim=2)
        expected.append(torch.einsum("hqk,khc->qhc", weights, v))
    for ours, one in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, one)
    gradients = [
        torch.autograd.grad(sum((part**3).sum() for part in parts), inputs)[0] for parts in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_left_out_branches_are_for_training_only():
    model = random_model(drop_path=0.5)
    batch = features_of(collate([(torch.randn(40, 7), *nothing())] * 2))
    assert not torch.equal(model(**batch)[0], model(**batch)[0])
    model.eval()
    assert torch.equal(model(**batch)[0], model(**batch)[0])


def test_videos_without_annotations_teach_background(weights):
    model = make(weights)
    terms = model.loss(collate([(torch.randn(20, 48), *nothing())] * 2))
    assert terms["regression"] == 0 and terms["classification"] > 0
    terms["loss"].backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("length", [1, 2, 17, 256, 700])
def test_any_length_and_a_single_class(length):
    model = random_model(num_classes=1).eval()
    found, scores = model.candidates(torch.randn(length, 7), TimeGrid(0.5, 0.25))
    assert scores.shape == (length, 1)
    assert len(found.scores) == len(found.segments) and (np.diff(found.scores) <= 0).all()
    terms = model.loss(collate([(torch.randn(length, 7), np.array([[0, 0.9]]), np.array([0]))]))
    assert torch.isfinite(terms["loss"])


def test_resized_videos_keep_their_times():
    model = random_model(min_candidate_score=0, resize=64).eval()
    found, scores = model.candidates(torch.randn(200, 7), TimeGrid(0.5, 0.25))
    assert scores.shape == (200, 3) and found.segments.max() > 60
    assert found.end == pytest.approx(100)


def test_half_precision_computes_losses_in_float32():
    model = random_model()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(collate([(torch.randn(50, 7), np.array([[3.0, 9.0]]), np.array([1]))]))
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


def test_official_checkpoints_have_a_prefix(weights):
    plain, wrapped = (
        from_reference(state)
        for state in (weights, {f"module.{name}": value for name, value in weights.items()})
    )
    assert plain.keys() == wrapped.keys()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention_heads": 3}, "attention_heads (3) has to divide embed_dim (512)"),
        ({"attention_windows": [19, 19]}, "attention_windows has 2 values"),
        ({"attention_windows": [8]}, "attention_windows can't hold 8"),
        ({"attention_windows": [1]}, "attention_windows can't hold 1"),
        ({"regression_bounds": [4, 8]}, "regression_bounds has 2 values, but levels=6 needs 5"),
        ({"regression_bounds": [4, 8, 8, 16, 32]}, "regression_bounds must rise"),
        ({"sequence_length": 1000}, "sequence_length can't be 1000"),
        ({"crop_low": 0.9, "crop_high": 0.5}, "crop_low (0.9) can't be above crop_high"),
        ({"resize": 4096}, "resize (4096) can't be above sequence_length"),
        ({"kernel_size": 4}, "kernel_size can't be 4"),
        ({"center_radius": 0}, "center_radius can't be 0"),
        ({"levels": 0}, "levels can't be 0"),
    ],
)
def test_contradictory_settings_are_named(settings, words):
    with pytest.raises(InputError) as error:
        validated(METHOD.config, settings)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_windows_of_the_reference():
    assert ActionFormerConfig().padding_multiple == 18 * 32
    assert ActionFormerConfig(**SETTINGS).padding_multiple == 128
    assert ActionFormerConfig(**SETTINGS | {"attention_windows": [51, -1, -1, -1, -1]}).padding_multiple == 64
