"""SSN against the authors' implementation, and as a method that trains on any features."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tal_core.models.ssn import ssn
from tal_core.models.ssn.structured_segments import (
    KindRules,
    PyramidLayout,
    PyramidPooling,
    class_scores,
    detect,
    name_proposals,
    only_classes,
    pool_scores,
    proposal_kinds,
    proposal_snippets,
    regression_targets,
    stage_ticks,
    structured_losses,
    suppress_per_class,
)
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "ssn"
CLASSES, PARTS = 4, PyramidLayout((1,), (1, 2), (1,))


@pytest.fixture(scope="module")
def case():
    """Arrays of the golden case as tensors; text stays an array."""
    with np.load(GOLDEN / "case.npz") as file:
        return {
            name: torch.from_numpy(file[name]) if file[name].dtype.kind != "U" else file[name]
            for name in file
        }


@pytest.fixture(scope="module")
def settings():
    return json.loads((GOLDEN / "config.json").read_text())


@pytest.fixture(scope="module")
def model(case):
    config = ssn.SSNConfig(course_parts=[1, 2], dropout=0.8, encoder_layers=0)
    network = ssn.SSN(config, 24, CLASSES).eval()
    statistics = torch.stack([case["regression_mean"], case["regression_std"]])
    state = ssn.from_reference(load_file(GOLDEN / "weights.safetensors"), statistics)
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.startswith(("heads", "regression"))]
    return network


def close(found, wanted, tolerance):
    torch.testing.assert_close(found.double(), wanted.double(), rtol=0, atol=tolerance)


@pytest.mark.parity
def test_proposals_are_named_like_the_reference(case):
    for video in range(3):
        spans, truth = case["span_video"] == video, case["gt_video"] == video
        named = name_proposals(
            case["span_second"][spans], case["gt_segment_second"][truth], case["gt_class"][truth]
        )
        assert torch.equal(named.label, case["span_label"][spans])
        close(named.iou, case["span_best_iou"][spans], 1e-6)
        close(named.overlap, case["span_overlap_self"][spans], 1e-6)
        frames = case["video_num_frames"][video] / case["video_duration_second"][video]
        assert torch.equal((case["span_second"][spans] * frames).long(), case["prop_frames"][spans])
        assert torch.equal((case["gt_segment_second"][truth] * frames).long(), case["gt_frames"][truth])
    assert torch.equal(case["prop_video"], case["span_video"])
    assert torch.equal(case["prop_label"], case["span_label"])
    assert torch.equal(case["gt_label"], case["gt_class"] + 1)
    close(case["span_best_iou"], case["prop_best_iou"], 5.1e-5)
    close(case["span_overlap_self"], case["prop_overlap_self"], 5.1e-5)


@pytest.mark.parity
def test_kinds_and_regression_targets(case, settings):
    rules = settings["sampling"]
    bounds = KindRules(
        rules["foreground_iou_above"],
        rules["incomplete_iou_below"],
        rules["incomplete_overlap_with_own_length_above"],
        rules["background_iou_below"],
        rules["background_coverage_above"],
    )
    frames = case["prop_frames"].double()
    num_frames = case["video_num_frames"][case["prop_video"]]
    coverage = (frames[:, 1] - frames[:, 0]) / num_frames
    close(coverage, case["prop_coverage"], 1e-6)
    kinds = proposal_kinds(case["prop_best_iou"], case["prop_overlap_self"], coverage, bounds)
    assert torch.equal(kinds, case["prop_kind"])
    targets = torch.zeros(len(kinds), 2, dtype=torch.float64)
    for video in range(3):
        rows = torch.nonzero((case["prop_video"] == video) & (kinds == 0)).flatten()
        truth = case["gt_video"] == video
        actions = case["gt_frames"][truth].double().clamp(max=float(case["video_num_frames"][video]))
        named = name_proposals(frames[rows], actions, case["gt_class"][truth])
        targets[rows] = regression_targets(frames[rows], actions[named.action], frame=1.0)
    close(targets, case["prop_regression_target_raw"], 1e-6)
    close(targets[kinds == 0].mean(dim=0), case["regression_mean"], 1e-6)
    close(targets[kinds == 0].std(dim=0, unbiased=False), case["regression_std"], 1e-6)


@pytest.mark.parity
def test_drawn_proposals_follow_from_their_rows(case):
    """The draw itself is chance; what it says of each drawn row is not."""
    rows, whole = case["train_proposal"], case["train_is_ground_truth"]
    table = torch.where(whole[:, None], case["gt_frames"][rows.clamp(max=5)], case["prop_frames"][rows])
    assert torch.equal(table, case["train_frames"])
    video = torch.where(whole, case["gt_video"][rows.clamp(max=5)], case["prop_video"][rows])
    assert torch.equal(video, case["train_video"])
    kinds = torch.where(whole, 0, case["prop_kind"][rows])
    assert torch.equal(kinds, case["train_kind"])
    labels = torch.where(whole, case["gt_label"][rows.clamp(max=5)], case["prop_label"][rows])
    assert torch.equal(torch.where(kinds == 2, 0, labels), case["train_label"])
    raw = torch.where(whole[:, None], 0.0, case["prop_regression_target_raw"][rows])
    normalised = (raw - case["regression_mean"]) / case["regression_std"]
    close(torch.where((kinds == 0)[:, None], normalised, 0.0), case["train_regression_target"], 1e-6)
    assert torch.equal(case["train_batch_video"], torch.arange(3).repeat_interleave(8))
    assert case["group_sizes"].tolist() == [1, 6, 1]
    assert kinds.view(3, 8).tolist() == [[0, 1, 1, 1, 1, 1, 1, 2]] * 3


@pytest.mark.parity
def test_snippets_of_a_proposal(case):
    lengths = case["video_num_frames"][case["train_video"]]
    places, scaling = proposal_snippets(case["train_frames"], lengths, (2, 5, 2))
    assert torch.equal(places, case["train_frame_index"])
    close(scaling, case["train_scaling"], 1e-6)
    assert case["train_stage_split"].tolist() == [2, 7, 9]
    begin = case["video_num_frames"].cumsum(0) - case["video_num_frames"]
    rows = begin[case["train_video"]][:, None] + places - 1
    assert torch.equal(case["frame_features"][rows], case["train_features"])


def test_random_snippets_stay_in_their_share_of_the_stage():
    frames, lengths = torch.tensor([[10, 40], [0, 3], [90, 100]]), torch.tensor([100, 100, 100])
    generator = torch.Generator().manual_seed(0)
    places, scaling = proposal_snippets(frames, lengths, (2, 5, 2), generator)
    assert torch.equal(scaling, proposal_snippets(frames, lengths, (2, 5, 2))[1])
    assert (places >= 1).all() and (places <= 100).all()
    assert (places[0].diff() >= 0).all()
    assert ((places[0, 2:7] > 10) & (places[0, 2:7] <= 40)).all()


@pytest.mark.parity
def test_pyramid_heads_and_pooling(case, model):
    course, pyramid = model.pyramid(case["train_features"], case["train_scaling"])
    close(course, case["train_course_feature"], 1e-6)
    close(pyramid, case["train_pyramid_feature"], 1e-6)
    activity, completeness, regression = model.heads(course, pyramid)
    close(activity, case["train_activity_logits"], 1e-5)
    close(completeness, case["train_completeness_scores"], 1e-5)
    close(regression, case["train_regression_scores"], 1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("number", [0, 1])
def test_pyramids_of_other_layouts(case, settings, number):
    given = settings["op_cases"][number]
    layout = PyramidLayout(*((p,) if isinstance(p, int) else tuple(p) for p in given["pyramid_parts"]))
    counts = [given[f"{stage}_snippets"] for stage in ("starting", "course", "ending")]
    course, pyramid = PyramidPooling(layout, counts)(
        case[f"op{number}_features"], case[f"op{number}_scaling"]
    )
    close(course, case[f"op{number}_course_feature"], 1e-6)
    close(pyramid, case[f"op{number}_pyramid_feature"], 1e-6)


def golden_batch(case):
    raw = case["train_regression_target"] * case["regression_std"] + case["regression_mean"]
    return {
        "snippets": case["train_features"],
        "scaling": case["train_scaling"],
        "labels": case["train_label"],
        "kinds": case["train_kind"],
        "targets": raw.float(),
        "blocks": 3,
    }


@pytest.mark.parity
def test_losses_and_gradients(case, model):
    model.zero_grad()
    settings = {"activity": 1.0, "completeness": 0.1, "regression": 0.1}
    terms = model.loss(golden_batch(case))
    for name in settings:
        assert float(terms[name].detach()) == pytest.approx(float(case[f"loss_{name}"]), rel=1e-5)
    assert float(terms["loss"].detach()) == pytest.approx(float(case["loss_total"]), rel=1e-5)
    terms["loss"].backward()
    names = {"activity_fc": "activity", "completeness_fc": "completeness", "regressor_fc": "regression"}
    weights = dict(model.heads.named_parameters())
    for name, norm in zip(case["grad_name"], case["grad_norm"], strict=True):
        layer, kind = str(name).split(".")
        assert float(weights[f"{names[layer]}.{kind}"].grad.norm()) == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parity
def test_rows_of_each_loss_and_mined_proposals(case):
    kinds, labels = case["train_kind"], case["train_label"]
    rated, judged, moved = kinds != 1, kinds != 2, kinds == 0
    for name, rows, column in (
        ("activity_logits", rated, "train_activity_logits"),
        ("completeness_scores", judged, "train_completeness_scores"),
        ("regression_scores", moved, "train_regression_scores"),
        ("regression_target", moved, "train_regression_target"),
    ):
        close(case[column][rows], case[f"loss_in_{name}"], 1e-6)
    assert torch.equal(labels[rated], case["loss_in_activity_label"])
    assert torch.equal(labels[judged], case["loss_in_completeness_label"])
    assert torch.equal(labels[moved], case["loss_in_regression_label"])

    # The gradient of the completeness loss shows which incomplete proposals were mined.
    completeness = case["train_completeness_scores"].clone().requires_grad_()
    outputs = case["train_activity_logits"], completeness, case["train_regression_scores"]
    given = labels, kinds, case["train_regression_target"], 3, 0.17
    structured_losses(outputs, *given)["completeness"].backward()
    own = (labels - 1).clamp(min=0)[:, None]
    kept = completeness.grad.gather(1, own).squeeze(1)[kinds == 1].view(3, 6) != 0
    assert torch.equal(kept, case["ohem_incomplete_kept"])
    hinge = torch.relu(1 + completeness.detach().gather(1, own).squeeze(1))[kinds == 1].view(3, 6)
    close(hinge, case["ohem_incomplete_hinge"], 1e-5)


@pytest.mark.parity
def test_merged_layer_and_pooled_scores(case, model, settings):
    weight, bias = model.heads.merged(PARTS.slots)
    close(weight, case["test_fc_weight"], 1e-6)
    close(bias, case["test_fc_bias"], 1e-6)
    interval = settings["testing"]["frame_interval"]
    begin = 0
    for video, length in enumerate(case["video_num_frames"].tolist()):
        ticks = case["test_tick_video"] == video
        frames = torch.arange(0, length - 1, interval)
        assert torch.equal(frames + 1, case["test_tick_frame"][ticks])
        scores = model.snippet_outputs(case["frame_features"][begin + frames])
        begin += length
        close(scores, case["test_raw_scores"][ticks], 1e-4)
        rows = case["prop_video"] == video
        segments = case["prop_frames"][rows].double() / length
        close(segments, case["test_relative_segment"][rows], 1e-9)
        places, scaling = stage_ticks(segments, len(scores))
        assert torch.equal(places, case["test_stage_ticks"][rows])
        close(scaling, case["test_scaling"][rows], 1e-6)
        activity, completeness, regression = pool_scores(scores, places, scaling, PARTS, CLASSES)
        close(activity, case["test_activity_scores"][rows], 1e-4)
        close(completeness, case["test_completeness_scores"][rows], 1e-4)
        moved = regression * model.regression_std + model.regression_mean
        close(moved, case["test_regression"][rows], 1e-4)


WAYS = {"fgsoftmax_topk": (False, 40, 0), "allsoftmax": (True, None, 0), "videoclass": (True, None, 2)}


@pytest.mark.parity
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", ["candidates", "after_nms", "final"])
def test_three_ways_to_detections(case, settings, way, stage):
    background, most, video_classes = WAYS[way]
    first_nms = None if stage == "candidates" else settings["detection"]["nms_iou_threshold"]
    wanted_video = case[f"det_{way}_{stage}_video"]
    for video in range(3):
        rows = case["prop_video"] == video
        scores = class_scores(
            case["test_activity_scores"][rows], case["test_completeness_scores"][rows], background
        )
        if video_classes:
            scores = only_classes(scores, case["video_class_scores"][video], video_classes)
        regression = case["test_regression"][rows]
        still = regression if stage == "final" else torch.zeros_like(regression)
        segments, values, labels = detect(case["test_relative_segment"][rows], scores, still, most, first_nms)
        wanted = case[f"det_{way}_{stage}"][wanted_video == video]
        classes = case[f"det_{way}_{stage}_class"][wanted_video == video]
        found = torch.cat([segments, values[:, None]], dim=1).double()
        assert len(found) == len(wanted)
        order, same = _sorted(found, labels), _sorted(wanted, classes)
        assert torch.equal(labels[order], classes[same])
        # Scores reach 20, where float32 itself is coarser than 1e-6.
        torch.testing.assert_close(found[order], wanted[same][:, :3], rtol=1e-6, atol=1e-6)
        if stage != "final":
            # The regression that a detection carries is its own proposal's.
            proposal = (
                (wanted[same][:, None, :2] - case["test_relative_segment"][rows]).abs().sum(2).argmin(1)
            )
            close(regression[proposal, classes[same]], wanted[same][:, 3:], 1e-6)


def _sorted(found, labels):
    return torch.from_numpy(np.lexsort((-found[:, 2].numpy(), labels.numpy())).copy())


def test_equal_overlap_is_kept():
    segments = torch.tensor([[0.0, 1.0], [0.0, 0.5], [0.0, 0.9]], dtype=torch.float64)
    kept = suppress_per_class(segments, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long), 0.5)
    assert kept.tolist() == [0, 1]
