"""BMN against the public implementation (tests/golden/bmn), and as a detector for any dataset."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file

from tal_core.models.bmn.bmn import (
    BMN,
    METHOD,
    BMNConfig,
    balanced_loss,
    bmn_losses,
    from_reference,
    make_targets,
    propose,
    regression_cells,
    thin_out,
)
from tal_core.models.bmn.boundary_matching import BoundaryMatching, map_cells, sampling
from tal_core.models.bsn.bsn import soft_nms
from tal_core.models.data_summary import DataSummary
from tal_core.models.shared.class_head import pad_truth
from tal_core.types import TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "bmn"
T = 23
SMALL = {
    "base_channels": 16,
    "map_channels": 8,
    "sample_channels": 12,
    "samples": 8,
    "classifier_channels": 16,
    "classifier_layers": 2,
    "classifier_segments": 16,
}


@pytest.fixture(scope="module")
def golden():
    """The arrays, the reference's weights, our model with them, and its outputs and loss."""
    with np.load(GOLDEN / "case.npz") as file:
        arrays = {name: file[name] for name in file.files}
    weights = load_file(GOLDEN / "weights.safetensors")
    config = BMNConfig(
        length=T,
        base_channels=32,
        map_channels=16,
        sample_channels=48,
        classifier="video_scores",
        propose_to_end=False,
    )
    model = BMN(config, 16, 1)
    missing, unexpected = model.load_state_dict(from_reference(weights), strict=False)
    assert set(missing) == {"mean", "std"} and not unexpected
    inputs = torch.from_numpy(arrays["features"]).transpose(1, 2)
    first, last = model.matching.start, model.matching.last
    uniform = np.stack([arrays["pem_reg_uniform_middle"], arrays["pem_reg_uniform_low"]])
    targets = golden_targets(arrays, first, last)
    outputs = model(inputs)
    terms = bmn_losses(
        outputs, targets, regression_weight=10, uniform=torch.from_numpy(uniform)[..., first, last]
    )
    terms["loss"].backward()
    return SimpleNamespace(
        arrays=arrays,
        weights=weights,
        model=model,
        inputs=inputs,
        targets=targets,
        outputs=outputs,
        terms=terms,
        uniform=torch.from_numpy(uniform)[..., first, last],
        first=first,
        last=last,
    )


def golden_targets(arrays, first, last):
    seconds = arrays["feature_frame"] / arrays["duration_frame"] * arrays["duration_second"]
    edges = arrays["gt_segments"] / seconds[arrays["gt_video"]][:, None] * T
    by_video = [torch.from_numpy(edges[arrays["gt_video"] == video]) for video in range(3)]
    labels = [torch.zeros(len(one), dtype=torch.int64) for one in by_video]
    truth, labels = pad_truth(by_video, labels, background=-1)
    return make_targets(truth, labels >= 0, torch.ones(3, T, dtype=torch.bool), first, last)


def close(ours, theirs, absolute=0.0, relative=0.0):
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else ours
    np.testing.assert_allclose(ours, theirs, atol=absolute, rtol=relative)


@pytest.mark.parity
def test_proposals_are_the_valid_cells(golden):
    valid = golden.arrays["valid_mask"].astype(bool)
    ours = np.zeros((T, T), bool)
    ours[golden.first, golden.last] = True
    assert (ours == valid).all() and len(golden.first) == valid.sum()


@pytest.mark.parity
def test_targets(golden):
    targets, arrays = golden.targets, golden.arrays
    close(targets.start, arrays["target_start"], 1e-6)
    close(targets.end, arrays["target_end"], 1e-6)
    close(targets.iou, arrays["target_iou_map"][:, golden.first, golden.last], 1e-6)
    assert targets.cells.all() and targets.snippets.all()


@pytest.mark.parity
def test_sampling_equals_the_dense_mask(golden):
    cells = map_cells(T, T, reach=4)
    matrix, transposed = (dense(part, 16928 // T) for part in sampling(cells, T, 32, 3, 0.5))
    mask = golden.weights["sample_mask"].view(T, 32, T, T).numpy()
    ours = matrix.reshape(-1, T, 32)
    close(ours, mask[:, :, cells.start, cells.last].transpose(2, 0, 1), 1e-6)
    assert (ours[cells.proposals :] == 0).all()
    columns = len(matrix)
    close(transposed[:, :columns].T, matrix[:, : T * 32], 0)


def dense(sums, columns):
    rows = np.repeat(np.arange(len(sums.edges) - 1), np.diff(sums.edges))
    full = np.zeros((len(sums.edges) - 1, max(columns, T * 32)), np.float32)
    full[rows, sums.columns] = sums.weights
    return full[:, : T * 32] if len(full) < T * 32 else full


@pytest.mark.parity
def test_intermediate_values(golden):
    model, arrays = golden.model, golden.arrays
    with torch.no_grad():
        base = model.base(golden.inputs.transpose(1, 2))
        sequence = model.proposal(base).transpose(1, 2)
        wide = torch.relu(model.matching.sampled(sequence))
    close(base, arrays["mid_base"], 1e-5)
    close(sequence.transpose(1, 2), arrays["mid_proposal_input"], 1e-5)
    cells = map_cells(T, T, reach=4)
    assert wide.shape[1] == len(cells.start) > cells.proposals
    close(wide.transpose(1, 2), arrays["mid_after_3d"][:, :, cells.start, cells.last], 1e-4)


@pytest.mark.parity
def test_sampled_cells(golden):
    # Our layer never forms the samples; the table that it sums by must give them.
    cells, arrays = map_cells(T, T, reach=0), golden.arrays
    matrix = dense(sampling(cells, T, 32, 3, 0.5)[0], T * 32).reshape(-1, T, 32)
    place = {pair: row for row, pair in enumerate(zip(cells.start, cells.last, strict=True))}
    for column, pair in enumerate(arrays["mid_sampled_cells"]):
        row = place.get(tuple(pair))
        weights = np.zeros((T, 32), np.float32) if row is None else matrix[row]
        close(arrays["mid_proposal_input"] @ weights, arrays["mid_sampled"][:, column], 1e-5)


@pytest.mark.parity
def test_outputs(golden):
    outputs, arrays = golden.outputs, golden.arrays
    close(outputs.start.sigmoid(), arrays["out_start"], 1e-5)
    close(outputs.end.sigmoid(), arrays["out_end"], 1e-5)
    valid = arrays["out_confidence_map"][:, :, golden.first, golden.last]
    close(outputs.confidence.sigmoid().transpose(1, 2), valid, 1e-5)


@pytest.mark.parity
def test_regression_cells(golden):
    kept = regression_cells(golden.targets.iou, golden.uniform)
    weights = golden.arrays["pem_reg_weights"]
    assert (kept.numpy() == weights[:, golden.first, golden.last].astype(bool)).all()
    assert weights.sum() == kept.sum()


@pytest.mark.parity
def test_losses(golden):
    terms, arrays = golden.terms, golden.arrays
    for ours, theirs in (
        ("loss", "loss_total"),
        ("iou_regression", "loss_pem_reg"),
        ("iou_classification", "loss_pem_cls"),
        ("start", "loss_tem_start"),
        ("end", "loss_tem_end"),
    ):
        close(terms[ours], arrays[theirs], relative=1e-5)
    close(terms["start"] + terms["end"], arrays["loss_tem"], relative=1e-5)


@pytest.mark.parity
def test_gradients(golden):
    gradients = {name: weight.grad.norm() for name, weight in golden.model.named_parameters()}
    names = golden.arrays["grad_name"]
    assert len(names) == len(gradients) == 24
    for name, norm in zip(names, golden.arrays["grad_norm"], strict=True):
        (ours,) = from_reference({str(name): golden.weights[str(name)]})
        close(gradients.pop(ours), norm, relative=1e-4)
    assert not gradients


def stored_proposals(arrays, video):
    rows = arrays["prop_video"] == video
    segments = np.stack([arrays["prop_xmin"], arrays["prop_xmax"]], axis=1)[rows]
    return segments, arrays["prop_score"][rows], rows


@pytest.mark.parity
@pytest.mark.parametrize("video", [0, 1, 2])
def test_proposals(golden, video):
    arrays = golden.arrays
    segments, scores, rows = stored_proposals(arrays, video)
    start, end, confidence = golden.model.video_maps(golden.inputs[video])
    edges, ours = propose(start, end, confidence, to_end=False)
    close(edges / T, segments, 1e-6)
    close(ours, scores, 1e-5)
    first, last = edges.long().T
    close(start[first], arrays["prop_start_score"][rows], 1e-5)
    close(end[last], arrays["prop_end_score"][rows], 1e-5)
    ious = confidence[first, last - 1 - first]
    close(ious[:, 0], arrays["prop_iou_score"][rows], 1e-5)
    close(ious[:, 1], arrays["prop_class_score"][rows], 1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("video", [0, 1, 2])
def test_soft_nms_and_final_segments(golden, video):
    arrays = golden.arrays
    segments, scores, _ = stored_proposals(arrays, video)
    taken, lowered = soft_nms(segments, scores, 1, sigma=0.4, overlap=(0.5, 0.9), keep=101)
    rows = arrays["nms_video"] == video
    close(segments[taken, 0], arrays["nms_xmin"][rows], 1e-9)
    close(segments[taken, 1], arrays["nms_xmax"][rows], 1e-9)
    close(lowered, arrays["nms_score"][rows], 1e-9)
    seconds = arrays["duration_second"][video] / arrays["duration_frame"][video]
    usable = arrays["duration_frame"][video] // 16 * 16 * seconds
    final = arrays["final_video"] == video
    close(segments[taken[:100]].clip(0, 1) * usable, arrays["final_segment"][final], 1e-9)
    close(lowered[:100], arrays["final_score"][final], 1e-9)

    edges, kept = thin_out(torch.from_numpy(segments * T).float(), torch.from_numpy(scores), T)
    close(edges / T * usable, arrays["final_segment"][final], 1e-4)
    close(kept, arrays["final_score"][final], 1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("video", [0, 1, 2])
def test_whole_way_from_features_to_final_segments(golden, video):
    arrays, model = golden.arrays, golden.model
    model.config = model.config.model_copy(update={"proposal_nms": True})
    usable = arrays["duration_frame"][video] // 16 * 16
    usable = usable / arrays["duration_frame"][video] * arrays["duration_second"][video]
    grid = TimeGrid(usable / T, usable / T / 2)
    found, scores = model.candidates(golden.inputs[video], grid)
    final = arrays["final_video"] == video
    assert scores is None and (found.labels == -1).all()
    # Scores that agree to 1e-6 may change places: compare as sets of segments.
    order, theirs = np.lexsort(found.segments.T), np.lexsort(arrays["final_segment"][final].T)
    close(found.segments[order], arrays["final_segment"][final][theirs], 1e-4)
    close(found.scores[order], arrays["final_score"][final][theirs], 1e-5)


def test_short_proposals_are_a_part_of_the_map_beside_zeros():
    torch.manual_seed(0)
    settings = {"channels": 4, "wide": 6, "hidden": 5, "out": 2, "samples": 4}
    whole = BoundaryMatching(9, 9, **settings)
    band = BoundaryMatching(9, 9 - 3, **settings)
    band.load_state_dict(whole.state_dict())
    sequence = torch.randn(2, 9, 4)
    # Each 3x3 convolution sees proposals up to two snippets longer.
    inner = whole.last - whole.start < 2
    few = band.last - band.start < 2
    close(whole(sequence)[:, inner].detach(), band(sequence)[:, few].detach(), 1e-6)


def test_map_convolution_equals_a_dense_one():
    torch.manual_seed(1)
    length, model = 6, BoundaryMatching(6, 6, channels=3, wide=4, hidden=5, out=2, samples=4).double()
    sequence = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    ours = model(sequence)
    cells = map_cells(length, length, reach=length)
    # All cells of the map, in the same network.
    wide = torch.relu(model.sample_bias).expand(2, length, length, 4).clone()
    wide[:, model.start, model.last] = torch.relu(model.sampled(sequence))[:, : cells.proposals]
    hidden = torch.relu(model.reduce(wide)).permute(0, 3, 1, 2)
    for layer in (model.convolution_near, model.convolution):
        hidden = torch.relu(F.conv2d(hidden, layer.weight, layer.bias, padding=1))
    theirs = model.output(hidden.permute(0, 2, 3, 1))[:, model.start, model.last]
    close(ours.detach(), theirs.detach().numpy(), 1e-12)
    weights = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * weights).sum(), [sequence, *model.parameters()])
    dense_ones = torch.autograd.grad((theirs * weights).sum(), [sequence, *model.parameters()])
    for one, other in zip(mine, dense_ones, strict=True):
        close(one, other.numpy(), 1e-12)


def make_batch(lengths=(12, 7), channels=4, empty=False):
    torch.manual_seed(2)
    features = torch.randn(len(lengths), max(lengths), channels)
    segments = [torch.tensor([[1.5, 4.5], [3.5, 6.0]])[: 0 if empty else 2] for _ in lengths]
    return {
        "features": features,
        "mask": torch.arange(max(lengths)) < torch.tensor(lengths)[:, None],
        "segments": segments,
        "labels": [torch.arange(len(one)) for one in segments],
    }


def make_model(channels=4, classes=2, **settings):
    torch.manual_seed(0)
    defaults = {**SMALL, "input": "windows", "length": 16, "max_duration": 8}
    return BMN(BMNConfig(**{**defaults, **settings}), channels, classes)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("classifier", ["head", "video_scores"])
def test_loss_is_finite_and_reaches_every_weight(classifier, empty):
    model = make_model(classifier=classifier)
    terms = model.loss(make_batch(empty=empty))
    assert all(torch.isfinite(term) for term in terms.values())
    assert ("class" in terms) == (classifier == "head")
    terms["loss"].backward()
    gradients = [weight.grad for weight in model.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    if not empty:
        assert all(gradient is not None for gradient in gradients)


def test_padding_does_not_count():
    model = make_model(classifier="video_scores")
    short = make_batch(lengths=(7,))
    padded = {**short, "features": F.pad(short["features"], (0, 0, 0, 5), value=9.0)}
    padded["mask"] = F.pad(short["mask"], (0, 5))
    losses = []
    for batch in (short, padded):
        torch.manual_seed(3)
        losses.append(model.loss(batch)["loss"].item())
    assert losses[0] == pytest.approx(losses[1])


def test_balanced_loss_without_positives_or_negatives_is_finite():
    probability = torch.tensor([[0.2, 0.4]])
    everything = torch.ones_like(probability, dtype=torch.bool)
    expected = -0.5 * np.log1p(-probability.numpy()).mean()
    assert balanced_loss(probability, ~everything, everything).item() == pytest.approx(expected, abs=1e-5)
    expected = -0.5 * np.log(probability.numpy()).mean()
    assert balanced_loss(probability, everything, everything).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("snippets", [1, 2, 16, 61])
@pytest.mark.parametrize(
    "settings", [{}, {"input": "rescale", "max_duration": None}, {"propose_to_end": False}]
)
def test_candidates_of_any_length(snippets, settings):
    model = make_model(classes=1, **settings).eval()
    found, scores = model.candidates(torch.randn(snippets, 4), TimeGrid(0.5, 0.25))
    assert scores.shape == (snippets, 1)
    assert len(found) > 0 or (snippets == 1 and settings == {"propose_to_end": False})
    assert (np.diff(found.scores) <= 0).all() and (found.labels == 0).all()
    assert found.segments.dtype == np.float32 and (found.segments[:, 0] < found.segments[:, 1]).all()
    assert (found.segments >= 0).all() and (found.segments <= snippets * 0.5).all()


def test_windows_cover_a_long_video():
    model = make_model(classifier="video_scores").eval()
    features = torch.randn(40, 4)
    with torch.no_grad():
        start, end, confidence = model.video_maps(features)
        first, second = model(features[None, :16]), model(features[None, 8:24])
    assert start.shape == end.shape == (40,) and confidence.shape == (40, 8, 2)
    lasts = torch.arange(40)[:, None] + torch.arange(8)
    assert ((confidence[..., 0] > 0) == (lasts < 40)).all()
    close(start[:8], first.start.sigmoid()[0, :8], 1e-6)  # one window sees these, two the next ones
    close(end[8:16], (first.end.sigmoid()[0, 8:] + second.end.sigmoid()[0, :8]) / 2, 1e-6)
    at = int(((model.matching.start == 6) & (model.matching.last == 9)).nonzero())
    close(confidence[6, 3], first.confidence.sigmoid()[0, at], 1e-6)


def test_autocast_trains_in_bfloat16():
    model, batch = make_model(), make_batch()
    exact = model.loss(batch)["start"].item()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch)
    assert terms["loss"].dtype == torch.float32
    assert terms["start"].item() == pytest.approx(exact, rel=0.05)
    terms["loss"].backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())


def test_it_learns_where_segments_are():
    torch.manual_seed(0)
    model = make_model(length=16, max_duration=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batch = make_batch(lengths=(16, 16), channels=4)
    batch["features"] *= 0.1
    batch["features"][:, 2:5, 0] += 2
    batch["segments"] = [torch.tensor([[1.5, 4.5]])] * 2
    batch["labels"] = [torch.tensor([1])] * 2
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    found, _ = model.eval().candidates(batch["features"][0], TimeGrid(1.0, 0.5))
    close(found.segments[0], [2, 5])
    assert found.labels[0] == 1


@pytest.mark.parametrize(
    "settings, field",
    [({"length": 20, "max_duration": 30}, "max_duration"), ({"base_channels": 30}, "base_channels")],
)
def test_contradictory_settings_name_the_field(settings, field):
    with pytest.raises(ValidationError, match=f"{field} can't be"):
        BMNConfig(**settings)


def summary(segments, lengths):
    segments = np.asarray(segments, float)
    return DataSummary(
        num_features=4,
        num_classes=2,
        stride=1.0,
        lengths=np.asarray(lengths),
        counts=np.array([len(segments)] + [0] * (len(lengths) - 1)),
        segments=segments,
        segment_classes=np.zeros(len(segments), np.int64),
    )


def test_suggestions_follow_the_lengths():
    short = METHOD.suggest(summary([4.0, 10, 20, 30] * 30, [400] * 40))
    assert short["input"].value == "windows" and 30 <= short["max_duration"].value <= 40
    long = METHOD.suggest(summary([50.0, 100, 200] * 30, [300] * 40))
    assert long["input"].value == "rescale" and "max_duration" not in long
    for found in (short, long, METHOD.suggest(summary([], [5, 1])), METHOD.suggest(summary([1.0], [1]))):
        config = METHOD.config(**{name: one.value for name, one in found.items()})
        assert all(one.reason and "\n" not in one.reason for one in found.values())
        assert config.longest <= config.length


def test_check_counts_what_does_not_fit():
    data = summary([0.2, 5, 40, 50], [100, 120])
    config = BMNConfig(input="windows", length=64, max_duration=32)
    found = METHOD.check(config, data)
    assert len(found) == 2
    assert found[0].startswith("2 of 4") and "max_duration=50" in found[0] and found[1].startswith("1 of 4")
    assert METHOD.check(config, summary([5.0], [100])) == []
    (heavy,) = METHOD.check(BMNConfig(length=1000, batch_size=64), summary([5.0], [1000]))
    assert "lower batch_size" in heavy
