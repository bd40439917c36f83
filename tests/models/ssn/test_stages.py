"""SSN as a method that trains on any dataset, in two stages."""

import numpy as np
import pytest
import torch

from tal_core.models.data_summary import summarise
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.models.ssn import actionness, ssn
from tal_core.runs.run import create_run
from tal_core.training import checkpoint
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.training.synthetic import make_dataset

SMALL = {
    "epochs": 4,
    "proposal_share": 0.5,
    "repeats": 6,
    "batch_size": 3,
    "proposals_per_video": 16,
    "learning_rate": 0.01,
    "dropout": 0.0,
    "validate_every": 0,
    "device": "cpu",
    "proposer_settings": "channels=16 layers=2 batch_size=3",
}
CONTEXT = {"encoder_layers": 2, "encoder_channels": 16, "moved_truth": 16, "first_nms": None, "nms": "soft"}
FORMS = {"paper": SMALL, "context": SMALL | CONTEXT}


def start(home, form="context", run_id="run", dataset="tiny", **settings):
    return create_run(home, dataset, "ssn", build_config("ssn", FORMS[form] | settings), run_id)


def epoch_losses(run):
    metrics = run.metrics()
    return metrics.loc[metrics["kind"] == "epoch", "loss"].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_finds_planted_actions(home, form):
    make_dataset(home)
    run = start(home, form)
    assert train(home, run) == "finished"
    assert run.evaluation().average_mAP > 0.5
    detections = run.detections()
    assert (detections["start"] >= 0).all() and (detections["end"] <= 30.0).all()


@pytest.mark.parametrize("step", [3, 7])
def test_stopped_in_either_stage_and_resumed_equals_uninterrupted(home, monkeypatch, step):
    make_dataset(home)
    settings = {"ema_decay": 0.9, "repeats": 2}
    whole, parted = start(home, run_id="whole", **settings), start(home, run_id="parted", **settings)
    train(home, whole)
    advance = checkpoint.Position.advance

    def stop(self, terms):
        advance(self, terms)
        if self.total_steps == step:
            (parted.folder / "stop").touch()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Position, "advance", stop)
        assert train(home, parted) == "stopped"
    assert train(home, parted, resume=True) == "finished"
    assert epoch_losses(parted) == epoch_losses(whole)
    assert parted.detections().equals(whole.detections())


@pytest.mark.parametrize("proposals", ["bsn", "bmn"])
def test_takes_proposals_of_other_networks(home, proposals):
    make_dataset(home)
    small = {
        "bsn": "batch_size=3 tem_channels=16 pem_channels=16",
        "bmn": "batch_size=3 length=32 base_channels=8 map_channels=4 sample_channels=8 samples=4",
    }
    run = start(home, proposals=proposals, proposer_settings=small[proposals], repeats=1)
    assert train(home, run) == "finished"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 500])
def test_detects_in_videos_of_any_length(form, length):
    model = ssn.SSN(build_config("ssn", FORMS[form]), 5, 1).eval()
    grid = TimeGrid(0.5, 0.25)
    found, scores = model.candidates(torch.randn(length, 5), grid)
    assert scores.shape == (length, 1) and len(found) > 0
    assert found.segments.min() >= 0 and found.segments.max() <= 0.5 * length + 1e-5
    assert (np.diff(found.scores) <= 0).all() and set(found.labels) == {0}


@pytest.mark.parametrize("form", FORMS)
def test_trains_on_odd_datasets(home, form):
    for name, shape in (
        ("empty", {"annotated": False}),
        ("single", {"classes": ("jump",)}),
        ("shortest", {"snippets": 1}),
    ):
        make_dataset(home, name, **shape)
        run = start(home, form, name, name, epochs=2, repeats=1)
        assert train(home, run) == "finished", name


def test_long_videos_are_cut_into_clips(home):
    data = make_dataset(home, snippets=200)
    config = build_config("ssn", FORMS["context"] | {"sequence_length": 50})
    model = ssn.SSN(config, 5, 3)
    sampler = ssn.METHOD.sampler(model, data, config)
    batches = sampler.epoch(config.proposal_epochs, torch.Generator().manual_seed(0))
    batch = batches[0]
    assert batch["features"].shape == (3, 50, 5) and batch["mask"].all()
    assert (batch["edges"] >= 0).all() and (batch["edges"] <= 50).all()
    again = sampler.epoch(config.proposal_epochs, torch.Generator().manual_seed(0))[0]
    assert torch.equal(batch["edges"], again["edges"])
    assert sampler.proposed.keys() == set(sampler.videos)
    assert (model.regression_std > 0).all()
    # Snippets under a foreground proposal that is an action whole have its class.
    whole = (batch["kinds"] == 0) & (batch["targets"] == 0).all(dim=1)
    for row in torch.nonzero(whole).flatten():
        first, last = batch["edges"][row].round().int().tolist()
        labels = batch["snippet_labels"][batch["video"][row], first + 1 : last - 1]
        assert (labels == batch["labels"][row]).all()


def test_basins_join_over_tolerated_gaps():
    signal = np.full(40, 0.0)
    signal[5:10] = signal[12:18] = signal[35:38] = 1.0
    segments, scores = actionness.group_actionness(signal, [0.5], [0.05, 0.3])
    found = {tuple(row) for row in segments}
    assert {(4.5, 9.5), (11.5, 17.5), (34.5, 37.5), (4.5, 17.5)} == found
    kept = actionness.distinct(segments, scores, 0.6)
    assert tuple(segments[kept[0]]) in {(4.5, 9.5), (11.5, 17.5), (34.5, 37.5)}


def test_suggested_settings_are_valid_and_warned_of_where_they_do_not_fit(home):
    data = make_dataset(home)
    summary = summarise(data)
    suggested = METHODS["ssn"].suggest(summary)
    assert all("\n" not in one.reason and one.reason for one in suggested.values())
    config = build_config("ssn", {name: one.value for name, one in suggested.items()})
    assert METHODS["ssn"].check(config, summary) == []
    short = METHODS["ssn"].check(build_config("ssn", {**SMALL, **CONTEXT, "sequence_length": 5}), summary)
    assert any("sequence_length" in line for line in short)
    few = METHODS["ssn"].check(build_config("ssn", {"proposals_per_video": 4}), summary)
    assert any("hard_negative_ratio" in line for line in few)
    other = METHODS["ssn"].check(build_config("ssn", {"proposals": "bsn"}), summary)
    advice = next(line for line in other if "proposer_settings" in line).partition("to: ")[2]
    build_config("ssn", {"proposals": "bsn", "proposer_settings": advice})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 1}, "epochs can't be 1"),
        ({"course_parts": [6]}, "course_parts"),
        ({"incomplete_iou": 0.8}, "incomplete_iou"),
        ({"proposer_settings": "chanels=4"}, "channels"),
        ({"proposer_settings": "channels"}, "proposer_settings"),
        ({"proposals": "tag"}, "proposals"),
    ],
)
def test_contradictions_name_the_setting(settings, named):
    with pytest.raises(InputError, match=named):
        build_config("ssn", settings)
