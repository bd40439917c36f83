"""Batches prepared in the background: in order, the same, and what goes wrong comes at its turn."""

import threading

import numpy as np
import pytest
import torch

from tal_core.data.dataset.dataset import open_dataset
from tal_core.inference.predict import predict_dataset
from tal_core.training import loader, steps
from tal_core.training.loader import prepared, to_device
from tal_core.training.loop import train
from tal_core.types import InputError
from tests.training.synthetic import make_dataset, make_run

CPU = torch.device("cpu")


class Numbered(list):
    """Batches that note which thread made them."""

    def __init__(self, *numbers):
        super().__init__(numbers)
        self.threads = set()

    def __getitem__(self, number):
        self.threads.add(threading.current_thread().name)
        if super().__getitem__(number) is None:
            raise InputError("spoilt")
        return {"x": torch.full((2,), number)}


@pytest.mark.parametrize("first", [0, 3, 20])
def test_batches_come_in_order_from_any_start(first):
    batches = Numbered(*range(20))
    assert [int(batch["x"][0]) for batch in prepared(batches, first, CPU)] == list(range(first, 20))
    assert all(name.startswith("loader") for name in batches.threads)


def test_an_error_is_raised_at_its_turn_and_the_rest_left():
    batches, seen = Numbered(0, 1, None, *range(3, 50)), []
    with pytest.raises(InputError, match="spoilt"):
        for batch in prepared(batches, 0, CPU):
            seen.append(int(batch["x"][0]))
    assert seen == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_batches_that_need_the_network_are_made_between_steps():
    batches = Numbered(0, 1, 2)
    batches.needs_network = True
    assert len(list(prepared(batches, 0, CPU))) == 3
    assert batches.threads == {threading.current_thread().name}


def test_threads_of_the_network_stay_as_they_are():
    before = torch.get_num_threads()
    list(prepared(Numbered(0, 1, 2), 0, CPU))
    assert torch.get_num_threads() == before


def test_half_precision_becomes_float32_on_the_device():
    batch = {"features": torch.ones(2, dtype=torch.float16), "labels": [torch.ones(2, dtype=torch.int64)]}
    moved = to_device(batch, CPU)
    assert moved["features"].dtype == torch.float32 and moved["labels"][0].dtype == torch.int64


def losses(run):
    table = run.metrics()
    return table.loc[table["kind"] == "epoch", "loss"].tolist()


def halve(data):
    """Stores a dataset's features as float16."""
    for path in data.entry.features[0].iterdir():
        np.save(path, np.load(path).astype(np.float16))


def test_training_on_float16_equals_training_on_the_same_numbers_in_float32(home):
    data = make_dataset(home)
    halve(data)
    runs = [make_run(home, run_id="disk", keep_features="disk"), make_run(home, run_id="memory")]
    for run in runs:
        train(home, run)
    for path in data.entry.features[0].iterdir():
        np.save(path, np.load(path).astype(np.float32))
    runs.append(make_run(home, run_id="whole"))
    train(home, runs[-1])
    assert losses(runs[0]) == losses(runs[1]) == losses(runs[2])
    assert len({float(run.evaluation().average_mAP) for run in runs}) == 1


def test_a_file_that_vanishes_in_training_stops_it_and_resuming_goes_on_exactly(home, monkeypatch):
    data = make_dataset(home)
    whole, parted = make_run(home, run_id="whole"), make_run(home, run_id="parted", keep_features="disk")
    train(home, whole)
    path = data.entry.features[0] / "v01.npy"
    content, stamp = path.read_bytes(), path.stat()
    taken, take = [], steps.Steps.take

    def losing(self, batch, rate):
        taken.append(1)
        if len(taken) == 3:
            path.unlink()
        return take(self, batch, rate)

    monkeypatch.setattr(steps.Steps, "take", losing)
    with pytest.raises(
        InputError, match=r"v01\.npy: no such file; .* 1 of 8 feature files went and 0 changed"
    ):
        train(home, parted)
    assert parted.status()["state"] == "failed" and "1 of 8" in parted.status()["error"]
    path.write_bytes(content)
    assert path.stat().st_size == stamp.st_size
    train(home, parted, resume=True)
    assert losses(parted) == losses(whole)


def test_a_file_cut_off_before_prediction_is_named(home, monkeypatch):
    data = make_dataset(home)
    run = make_run(home)
    train(home, run)
    path = data.entry.features[0] / "v03.npy"

    def opened(*args, **keywords):
        dataset = open_dataset(*args, **keywords)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 40)
        return dataset

    monkeypatch.setattr("tal_core.inference.predict.open_dataset", opened)
    with pytest.raises(InputError, match=r"v03\.npy.*40 bytes are missing.*1 changed"):
        predict_dataset(home, run, "tiny", device="cpu")


def test_pinning_leaves_other_values_alone(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    batch = {"a": torch.zeros(1), "b": [torch.zeros(1)], "blocks": 3}
    done = loader.pinned(batch)
    assert done["a"].item() == done["b"][0].item() == 1 and done["blocks"] == 3
