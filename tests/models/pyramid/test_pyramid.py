"""The pyramid methods give the numbers of their reference programs: tests/golden/<method>/README.md."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tal_core.models.pyramid.points import assign, pad_segments
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.training.optimization import make_optimizer
from tal_core.types import TimeGrid
from tests.models.pyramid.golden_case import (
    CASES,
    CLASSES,
    INFERENCE,
    LEVELS,
    SCALES,
    cells_of,
    close,
    every,
    inputs,
    nothing,
    points_of_levels,
)
from tests.paths import GOLDEN

parity = pytest.mark.parity
methods = pytest.mark.parametrize("golden", CASES.values(), ids=CASES)
numbers = pytest.mark.parametrize("number", [0, 1, 2])
clips = pytest.mark.parametrize("name", ["eval", "long"])
# Whose targets are the same for all predictions, with the case's padded arrays.
ASSIGNED = {name: CASES[name] for name in ("actionformer", "tridet")}


@parity
@clips
@methods
def test_points(golden, name):
    table = np.concatenate([golden.arrays[f"{name}_points_L{level}"] for level in LEVELS])
    padded = len(golden.arrays[f"{name}_points_L0"])
    ours = np.stack(
        points_of_levels([padded // 2**level for level in LEVELS], golden.config().ranges), axis=1
    )
    assert np.array_equal(ours.clip(max=10_000), table[:, [0, 3, 1, 2]])


@parity
@clips
@pytest.mark.parametrize(("method", "network"), every("networks"))
@torch.no_grad()
def test_heads(method, network, name):
    golden = CASES[method]
    model, batch = golden.make(network), golden.batch(name)
    logits, cells = model.outputs(**inputs(batch))
    for what, ours in {"cls_logits": logits, **golden.read(model, cells)}.items():
        assert not ours[~cells.valid].any()
        for row in range(len(batch["mask"])):
            for level in LEVELS:
                expected = golden.arrays[f"{network}{name}_{what}_L{level}"][row]
                index = cells_of(cells, row, level)
                assert len(index) == golden.arrays[f"{name}_mask_L{level}"][row].sum()
                close(ours[index], expected[: len(index)], 5e-5)
                assert not expected[len(index) :].any()


@parity
@numbers
@methods
@torch.no_grad()
def test_candidates(golden, number):
    levels, _ = golden.make().decode(golden.video(number)[0])
    prefix = f"infer_video{number}_pre_nms"
    assert [len(level.scores) for level in levels] == golden.arrays[f"{prefix}_count_per_level"].tolist()
    close(torch.cat([level.segments for level in levels]), golden.arrays[f"{prefix}_segments"], 2e-3)
    close(torch.cat([level.scores for level in levels]), golden.arrays[f"{prefix}_scores"], 2e-5)
    assert np.array_equal(torch.cat([level.labels for level in levels]), golden.arrays[f"{prefix}_labels"])


@parity
@numbers
@pytest.mark.parametrize("setting", INFERENCE)
@methods
def test_detections(golden, number, setting):
    model = golden.make(**INFERENCE[setting]).eval()
    prefix = f"infer_video{number}_" + (setting if setting == "final" else f"alt_{setting}")
    expected, scores, labels = (
        golden.arrays[f"{prefix}_{part}"] for part in ("segments", "scores", "labels")
    )
    if setting == "none":  # that of the reference sorts nothing
        order = np.argsort(-scores, kind="stable")
        expected, scores, labels = expected[order], scores[order], labels[order]
    candidates, chances = model.candidates(golden.video(number)[0], golden.grid(number))
    table = post_process_predictions({"v": candidates}, list("abcde"), suppression(model.config))
    # Ours end with the last snippet, the reference's with the stated duration.
    end = min(candidates.end, golden.arrays[f"video{number}_duration"])
    close(table[["start", "end"]].clip(upper=end), expected.clip(max=end), 2e-3)
    close(table["score"], scores, 2e-5)
    assert table["label"].tolist() == ["abcde"[k] for k in labels]
    assert chances.shape == (len(golden.video(number)[0]), CLASSES)


# Training


@parity
@pytest.mark.parametrize(("method", "name"), every("training"))
def test_losses(method, name):
    golden = CASES[method]
    model, batch = golden.make(**golden.training[name]), golden.batch(name)
    assert_terms(model.loss(batch), model, golden.arrays, name)
    if name == "train":
        assert_terms(model.loss(batch), model, golden.arrays, "train_second_forward")


def assert_terms(terms, model, case, name):
    for ours, theirs in (("classification", "cls"), ("regression", "reg"), ("loss", "final")):
        assert terms[ours].item() == pytest.approx(case[f"{name}_{theirs}_loss"].item(), rel=1e-5)
    assert model.normaliser.value.item() == pytest.approx(case[f"{name}_loss_normalizer"].item(), rel=1e-5)


@parity
@pytest.mark.parametrize(("method", "name"), every("training", ASSIGNED))
def test_assignment(method, name):
    golden, case = CASES[method], CASES[method].arrays
    model, batch = golden.make(**golden.training[name]), golden.batch(name)
    outputs = model.outputs(**inputs(batch))
    classes, distances = model.targets(outputs, batch["segments"], batch["labels"])
    positive = outputs.cells.valid & (classes.sum(dim=1) > 0)
    assert positive.sum() == case[f"{name}_num_pos"]
    if f"{name}_gt_cls" not in case:
        return
    for row in range(2):
        valid, chosen = case[f"{name}_valid_mask"][row], case[f"{name}_pos_mask"][row]
        index = torch.cat([cells_of(outputs.cells, row, level) for level in LEVELS])
        assert np.array_equal(classes[index], case[f"{name}_gt_cls"][row, valid])
        assert np.array_equal(positive[index], chosen[valid]) and not chosen[~valid].any()
        rows = index[chosen[valid]]
        close(distances[rows], case[f"{name}_gt_offsets"][row, chosen], 1e-4)


@parity
@pytest.mark.parametrize("name", ["train", "alttrain_no_center_sampling"])
@pytest.mark.parametrize("method", ASSIGNED)
def test_assignment_of_padding(method, name):
    golden = CASES[method]
    config, batch = golden.config(**golden.training[name]), golden.batch(name)
    segments, labels = pad_segments(batch["segments"], batch["labels"])
    where = points_of_levels([256 // 2**level for level in LEVELS], config.ranges)
    radius = config.center_radius
    targets, _ = assign(where, segments.unsqueeze(1), labels.unsqueeze(1), radius, CLASSES)
    assert np.array_equal(targets, golden.arrays[f"{name}_gt_cls"])


@parity
@methods
def test_gradients(golden):
    case, model = golden.arrays, golden.make()
    model.loss(golden.batch("train"))["loss"].backward()
    names = case["train_grad_names"].tolist()
    assert len(names) >= len(list(model.parameters())) + len(SCALES) - 1
    for name, norm in zip(names, case["train_grad_norms"], strict=True):
        if norm > 1e-6:
            assert golden.gradient(model, name).norm().item() == pytest.approx(norm, rel=1e-3), name
    total = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    assert total.item() == pytest.approx(case["train_grad_total_norm"].item(), rel=1e-3)
    stored = [name for name in case if name.startswith("train_grad__")]
    assert len(stored) == golden.gradients
    for name in stored:
        expected = case[name]
        ours = golden.gradient(model, name.removeprefix("train_grad__")).reshape(expected.shape)
        close(ours, expected, 1e-3 * np.abs(expected).max())


@parity
@methods
def test_weight_decay_spares_what_the_reference_spares(golden):
    model = golden.make()
    ours = dict(model.named_parameters())
    decayed, spared = (set(map(id, g["params"])) for g in make_optimizer(model, model.config).param_groups)
    for names, group in (("optim_decay_names", decayed), ("optim_no_decay_names", spared)):
        for name in golden.arrays[names]:
            assert id(ours[golden.translated(name)]) in group, name


@parity
@methods
def test_trajectory(golden):
    case, model, batch = golden.arrays, golden.make(), golden.batch("train")
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


@methods
def test_the_golden_settings_are_those_tested(golden):
    stated = json.loads((GOLDEN / golden.name / "config.json").read_text())
    assert set(stated["alternate_inference_settings"]) - {"note"} == set(INFERENCE) - {"final"}
    trained = {name.removeprefix("alttrain_") for name in golden.training} - {"train"}
    assert set(stated["alternate_training"]) - {"note"} == trained
    networks = {name.removeprefix("altnet_").removesuffix("_") for name in golden.networks} - {""}
    assert set(stated["alternate_networks"]) - {"note"} == networks


# What the references can't


@methods
def test_videos_without_annotations_teach_background(golden):
    model, silent = golden.make(), (golden.video(1)[0], *nothing())
    alone = model.loss(collate([silent]))
    assert alone["regression"] == 0 and alone["classification"] > 0
    alone["loss"].backward()
    assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in model.parameters())
    together = golden.make().loss(collate([golden.video(0), silent]))
    lone = golden.make().loss(collate([golden.video(0)]))
    assert together["regression"].item() == pytest.approx(lone["regression"].item(), rel=1e-4)


@pytest.mark.parametrize("length", [1, 2, 17, 256, 700])
@methods
def test_any_length_and_a_single_class(golden, length):
    torch.manual_seed(0)
    model = golden.network(golden.config(), 6, 1).eval()
    candidates, scores = model.candidates(torch.randn(length, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (length, 1)
    assert len(candidates.scores) == len(candidates.segments) and (np.diff(candidates.scores) <= 0).all()
    clip = torch.randn(min(length, 256), 6), np.array([[0, 0.9]]), np.array([0])
    assert torch.isfinite(model.loss(collate([clip]))["loss"])


@methods
def test_resized_videos_keep_their_times(golden):
    model = golden.network(golden.config(min_candidate_score=0, resize=64), 6, 2).eval()
    torch.nn.init.constant_(model.heads.regression.output.bias, 1.0)
    candidates, scores = model.candidates(torch.randn(200, 6), TimeGrid(0.5, 0.25))
    assert scores.shape == (200, 2) and candidates.segments.max() > 60
    assert candidates.end == pytest.approx(100)


@methods
def test_half_precision_computes_losses_in_float32(golden):
    model = golden.random()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(collate([(torch.randn(50, 7), np.array([[3.0, 9.0]]), np.array([1]))]))
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


@methods
def test_official_checkpoints_have_a_prefix(golden):
    wrapped = {f"module.{name}": value for name, value in golden.weights.items()}
    translate = golden.module.from_reference
    assert translate(golden.weights).keys() == translate(wrapped).keys()
