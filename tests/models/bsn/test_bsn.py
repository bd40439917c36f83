"""BSN against its public implementation (tests/golden/bsn), and what the method must survive."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from tal_core.models.bsn import bsn, proposals
from tal_core.models.config import validated
from tal_core.models.data_summary import DataSummary, summarise
from tal_core.training.optimization import learning_rate
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER
from tests.training.synthetic import make_dataset

GOLDEN = GOLDEN_FOLDER / "bsn"
CONFIG = json.loads((GOLDEN / "config.json").read_text())
T, VIDEOS = 37, 3
TRAINING_ROWS, INFERENCE_ROWS = 60, 100


@pytest.fixture(scope="module", name="case")
def fixture_case():
    with np.load(GOLDEN / "case.npz") as file:
        return dict(file)


@pytest.fixture(name="model")
def fixture_model():
    settings = {
        "classifier": "video_scores",
        "length": None,
        "tem_channels": CONFIG["temporal_evaluation_network"]["hidden_dim"],
        "pem_channels": CONFIG["proposal_evaluation_network"]["hidden_dim"],
        "max_pairs": INFERENCE_ROWS,
        "max_proposals": CONFIG["post_processing"]["max_proposals_per_video"],
        "training_proposals": TRAINING_ROWS,
    }
    model = bsn.BSN(
        validated(bsn.BsnConfig, settings), CONFIG["temporal_evaluation_network"]["feature_dim"], 4
    )
    weights = safetensors.torch.load_file(GOLDEN / "weights.safetensors")
    own = {f"{'pem' if name.startswith('fc') else 'tem'}.{name}": value for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert set(missing) == {"mean", "std"} and not unexpected
    return model.eval()


def positions(case, video):
    """Ground truth of a video on the feature grid."""
    covered = case["feature_frame"] / case["duration_frame"] * case["duration_second"]
    return case["gt_segments"][case["gt_video"] == video] / covered[video] * T - 0.5


def batch(case):
    segments = [torch.from_numpy(positions(case, v)).float() for v in range(VIDEOS)]
    features = torch.from_numpy(case["features"]).transpose(1, 2)
    return {
        "features": features,
        "mask": torch.ones(VIDEOS, T, dtype=torch.bool),
        "segments": segments,
        "labels": [torch.zeros(len(one), dtype=torch.int64) for one in segments],
    }


def relative(segments):
    return (segments + 0.5) / T


def generated(case, video):
    _, start, end = case["tem_file_scores"][video]
    return proposals.generate_proposals(start, end, 0.5)


def in_order(xmin, xmax, *columns):
    """Rows by segment: neighbours in score may have changed places."""
    order = np.lexsort((np.round(xmax, 6), np.round(xmin, 6)))
    return [np.asarray(column)[order] for column in (xmin, xmax, *columns)]


@pytest.mark.parity
def test_targets(case):
    for video in range(VIDEOS):
        targets = bsn.boundary_targets(torch.from_numpy(positions(case, video)), T, 0.1, 1.0)
        for row, name in zip(targets, ("action", "start", "end"), strict=True):
            assert row.numpy() == pytest.approx(case[f"tem_target_{name}"][video], abs=1e-6)


@pytest.mark.parity
def test_anchors(case):
    # Our grid has no anchors; snippet t reaches from t - 0.5 to t + 0.5 as theirs from xmin to xmax.
    assert relative(np.arange(T) - 0.5) == pytest.approx(case["tem_anchor_xmin"], abs=1e-12)
    assert relative(np.arange(T) + 0.5) == pytest.approx(case["tem_anchor_xmax"], abs=1e-12)


@pytest.mark.parity
def test_temporal_evaluation(case, model):
    with torch.no_grad():
        curves = model(batch(case)["features"]).numpy()
    assert curves == pytest.approx(case["tem_out"], abs=1e-5)
    assert curves == pytest.approx(case["tem_file_scores"], abs=1e-5)


@pytest.mark.parity
def test_loss_and_gradients(case, model):
    terms = model.loss(batch(case))
    for ours, theirs in (("action", "action"), ("start", "start"), ("end", "end"), ("loss", "total")):
        assert terms[ours].item() == pytest.approx(float(case[f"loss_tem_{theirs}"]), rel=1e-5)
    terms["loss"].backward()
    for name, norm in zip(case["tem_grad_name"], case["tem_grad_norm"], strict=True):
        assert model.get_parameter(f"tem.{name}").grad.norm().item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parity
def test_padding_changes_nothing(case, model):
    plain = model.loss(batch(case))
    padded = batch(case)
    padded["features"] = torch.nn.functional.pad(padded["features"], (0, 0, 0, 9))
    padded["mask"] = torch.nn.functional.pad(padded["mask"], (0, 9))
    again = model.loss(padded)
    assert {k: v.item() for k, v in again.items()} == pytest.approx({k: v.item() for k, v in plain.items()})


@pytest.mark.parity
def test_candidates(case):
    for video in range(VIDEOS):
        for channel, name in ((1, "start"), (2, "end")):
            found = proposals.boundary_candidates(case["tem_file_scores"][video, channel], 0.5)
            assert found.tolist() == np.flatnonzero(case[f"pgm_{name}_candidate"][video]).tolist()


@pytest.mark.parity
def test_proposals(case):
    for video in range(VIDEOS):
        rows = case["pgm_video"] == video
        found = generated(case, video)
        iou, ioa = proposals.match(found.segments, positions(case, video))
        assert found.scores == pytest.approx(case["pgm_score"][rows], abs=1e-9)
        ours = in_order(*relative(found.segments).T, found.start, found.end, found.scores, iou, ioa)
        names = ("xmin", "xmax", "start_score", "end_score", "score", "match_iou", "match_ioa")
        for values, theirs in zip(ours, in_order(*(case[f"pgm_{n}"][rows] for n in names)), strict=True):
            assert values == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parity
def test_longest_proposal_only_drops(case):
    _, start, end = case["tem_file_scores"][0]
    full = proposals.generate_proposals(start, end, 0.5)
    short = proposals.generate_proposals(start, end, 0.5, longest=7)
    kept = np.diff(full.segments)[:, 0] <= 7
    assert 0 < kept.sum() < len(kept)
    assert short.segments.tolist() == full.segments[kept].tolist()


@pytest.mark.parity
def test_proposal_features(case):
    for video in range(VIDEOS):
        rows = np.flatnonzero(case["pgm_video"] == video)[:INFERENCE_ROWS]
        segments = np.stack([case["pgm_xmin"][rows], case["pgm_xmax"][rows]], axis=1) * T - 0.5
        features = proposals.proposal_features(case["tem_file_scores"][video, 0], segments)
        assert features == pytest.approx(case["pgm_feature"][case["pgm_feature_video"] == video], abs=1e-9)


@pytest.mark.parity
def test_training_proposals(case, model):
    for video in range(VIDEOS):
        found, values = model.proposals(batch(case)["features"][video], TRAINING_ROWS)
        iou = proposals.match(found.segments, positions(case, video))[0]
        rows = case["pem_train_video"] == video
        pgm = np.flatnonzero(case["pgm_video"] == video)[:TRAINING_ROWS]
        ours = in_order(*relative(found.segments).T, iou, values)
        theirs = in_order(
            case["pgm_xmin"][pgm],
            case["pgm_xmax"][pgm],
            case["pem_target_iou"][rows],
            case["pem_train_feature"][rows],
        )
        for mine, expected in zip(ours, theirs, strict=True):
            assert mine == pytest.approx(expected, abs=1e-6)


@pytest.mark.parity
def test_proposal_evaluation(case, model):
    features = torch.from_numpy(case["pem_train_feature"])
    iou = torch.from_numpy(case["pem_target_iou"])
    predicted = model.pem(features)
    assert predicted.detach().numpy() == pytest.approx(case["pem_train_out"], abs=1e-5)
    loss = model.loss({"proposals": features, "iou": iou})["loss"]
    assert loss.item() == pytest.approx(float(case["loss_pem"]), rel=1e-5)
    assert loss.item() == pytest.approx(float(case["loss_pem_low_threshold_0p2"]), rel=1e-5)
    loss.backward()
    for name, norm in zip(case["pem_grad_name"], case["pem_grad_norm"], strict=True):
        assert model.get_parameter(f"pem.{name}").grad.norm().item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize(("low", "suffix"), [(2.2, ""), (0.2, "_low_threshold_0p2")])
def test_balanced_proposal_loss(case, low, suffix):
    iou = torch.from_numpy(case["pem_target_iou"])
    uniform = [torch.from_numpy(case[f"pem_uniform_{group}"]) for group in ("middle", "low")]
    weights = bsn.balanced_weights(iou, *uniform, low=low)
    assert weights.tolist() == case[f"pem_weights{suffix}"].tolist()
    loss = bsn.weighted_loss(torch.from_numpy(case["pem_train_out"]), iou, weights)
    assert loss.item() == pytest.approx(float(case[f"extra_pem_loss_truly_weighted{suffix}"]), rel=1e-5)


@pytest.mark.parity
def test_scored_proposals(case, model):
    for video in range(VIDEOS):
        found, values = model.proposals(batch(case)["features"][video], INFERENCE_ROWS)
        with torch.no_grad():
            rated = model.pem(torch.from_numpy(values).float()).double().numpy()
        rows = case["pem_video"] == video
        ours = in_order(*relative(found.segments).T, found.start, found.end, rated, found.scores * rated)
        names = ("xmin", "xmax", "start_score", "end_score", "iou_score", "score")
        for mine, theirs in zip(ours, in_order(*(case[f"pem_{n}"][rows] for n in names)), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parity
def test_soft_nms(case):
    for video in range(VIDEOS):
        rows = case["pem_video"] == video
        segments = np.stack([case["pem_xmin"][rows], case["pem_xmax"][rows]], axis=1) * T - 0.5
        kept, scores = proposals.soft_nms(
            segments, case["pem_score"][rows], T, sigma=0.75, overlap=(0.65, 0.9), keep=30
        )
        taken = case["nms_video"] == video
        order = np.argsort(-case["nms_score"][taken], kind="stable")[:30]
        assert scores == pytest.approx(case["nms_score"][taken][order], abs=1e-9)
        expected = np.stack([case["nms_xmin"][taken], case["nms_xmax"][taken]], axis=1)[order]
        assert relative(segments[kept]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parity
def test_final_segments(case, model):
    for video in range(VIDEOS):
        frames = case["duration_frame"][video]
        covered = frames // 16 * 16 / frames * case["duration_second"][video]
        grid = TimeGrid(covered / T, covered / T / 2)
        found, snippets = model.candidates(batch(case)["features"][video], grid)
        rows = case["final_video"] == video
        assert found.segments == pytest.approx(case["final_segment"][rows], rel=1e-5, abs=1e-5)
        assert found.scores == pytest.approx(case["final_score"][rows], abs=1e-5)
        assert set(found.labels.tolist()) == {-1} and snippets is None


def tiny(**settings):
    small = {
        "epochs": 3,
        "pem_share": 0.34,
        "batch_size": 2,
        "tem_channels": 8,
        "pem_channels": 4,
        "classifier_channels": 8,
        "classifier_layers": 2,
        "classifier_segments": 8,
    }
    return validated(bsn.BsnConfig, small | settings)


@pytest.mark.parametrize("length", [1, 2, 3, 500])
@pytest.mark.parametrize("rescaled", [None, 20])
def test_any_length_and_one_class(length, rescaled):
    model = bsn.BSN(tiny(length=rescaled, longest_proposal=40), 5, 1).eval()
    grid = TimeGrid(0.5, 0.25)
    found, snippets = model.candidates(torch.randn(length, 5), grid)
    assert snippets.shape == (length, 1)
    assert (np.diff(found.scores) <= 0).all() and set(found.labels.tolist()) <= {0}
    assert (found.segments >= 0).all() and (found.segments <= length * 0.5 + 1e-6).all()
    assert (found.segments[:, 0] < found.segments[:, 1]).all()


@pytest.mark.parametrize("length", [None, 20])
def test_stages(tmp_path, length):
    dataset = make_dataset(tmp_path / "home")
    config = tiny(length=length)
    torch.manual_seed(0)
    model = bsn.BSN(config, dataset.num_features, len(dataset.labels))
    bsn.METHOD.prepare(model, dataset, config)
    assert model.head.mean.tolist() == model.mean.tolist() != [0] * 5
    sampler = bsn.StagedSampler(model, dataset, config)
    first, last = (sampler.epoch(epoch, torch.Generator().manual_seed(1)) for epoch in (1, 2))
    assert len(first) == len(last) == 3
    assert set(model.loss(first[0])) == {"action", "start", "end", "class", "iou", "snippet", "loss"}
    model.loss(last[0])["loss"].backward()
    trained = {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {"pem"}
    # A sampler made anew, as on resuming, gives the same steps.
    again = bsn.StagedSampler(model, dataset, config).epoch(2, torch.Generator().manual_seed(1))
    for name, values in last[2].items():
        assert torch.equal(values, again[2][name])


def test_videos_without_ground_truth(tmp_path):
    dataset = make_dataset(tmp_path / "home", annotated=False)
    config = tiny(length=None)
    model = bsn.BSN(config, dataset.num_features, len(dataset.labels))
    sampler = bsn.StagedSampler(model, dataset, config)
    for epoch in (0, 2):
        for batch_ in list(sampler.epoch(epoch, torch.Generator().manual_seed(0))):
            assert all(torch.isfinite(term) for term in model.loss(batch_).values())


@pytest.mark.parametrize(
    ("epochs", "share", "stages"),
    [(40, 0.5, (20,)), (3, 0.01, (2,)), (3, 0.99, (1,)), (1, 0.5, ()), (9, 0, ())],
)
def test_share_of_the_second_stage(epochs, share, stages):
    assert tiny(epochs=epochs, pem_share=share).stages == stages


def test_share_out_of_range():
    with pytest.raises(InputError, match=r"pem_share can't be 1.*below 1"):
        tiny(pem_share=1)


def test_suggestions_are_valid(tmp_path):
    summary = summarise(make_dataset(tmp_path / "home"))
    suggested = bsn.suggest(summary)
    config = validated(bsn.BsnConfig, {name: given.value for name, given in suggested.items()})
    assert all("\n" not in given.reason for given in suggested.values())
    assert bsn.check(config, summary) == []


def test_schedule_begins_anew_with_the_second_stage():
    config = tiny(epochs=10, pem_share=0.4, schedule="cosine", warmup_epochs=1)
    rates = [learning_rate(config, epoch, 0, 10) for epoch in range(10)]
    assert rates[0] == rates[6] < rates[1] == rates[7] == config.learning_rate
    assert np.argmin(rates[1:6]) == 4


def test_warnings():
    summary = DataSummary(
        num_features=5,
        num_classes=2,
        stride=1.0,
        lengths=np.array([2000, 2000]),
        counts=np.array([2, 2]),
        segments=np.array([3.0, 5.0, 8.0, 300.0]),
        segment_classes=np.zeros(4, np.int64),
    )
    suggested = bsn.suggest(summary)
    assert suggested["length"].value is None and suggested["longest_proposal"].value == 360
    short, blurred = tiny(length=None, longest_proposal=100), tiny(length=100)
    assert "1 of 4 training actions; set it to 300 or more" in bsn.check(short, summary)[0]
    unthinned = tiny(length=None, classifier="video_scores", proposal_nms="none")
    assert bsn.check(unthinned, summary) == [
        "with classifier video_scores, set proposal_nms to soft, as published"
    ]
    assert "3 of 4 training actions are shorter than a snippet" in bsn.check(blurred, summary)[0]


def test_class_head_learns(tmp_path):
    dataset = make_dataset(tmp_path / "home")
    small = {"classifier_channels": 16, "classifier_segments": 16, "classifier_dropout": 0.0}
    config = tiny(length=None, tem_scale=1.0, batch_size=6, **small)
    torch.manual_seed(0)
    model = bsn.BSN(config, dataset.num_features, len(dataset.labels))
    bsn.METHOD.prepare(model, dataset, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batch_ = bsn.StagedSampler(model, dataset, config).epoch(0, torch.Generator().manual_seed(0))[0]
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(batch_)["loss"].backward()
        optimizer.step()
    video = dataset.videos(dataset.evaluation_subset)[0]
    truth = dataset.ground_truth(videos=[video])
    with torch.inference_mode():
        found, _ = model.eval().candidates(
            torch.from_numpy(np.array(dataset.features(video))), dataset.grid(video)
        )
    segments = truth[["start", "end"]].to_numpy()
    for segment, label in zip(segments, truth["label"], strict=True):
        near = proposals.match(found.segments.astype(float), segment[None])[0] > 0.5
        assert near.any() and dataset.labels[found.labels[near][0]] == label
