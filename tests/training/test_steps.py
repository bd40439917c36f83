"""Steps report late but completely, compile if they can, and name the step that went wrong."""

import dataclasses

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.training import steps
from tal_core.training.loop import train
from tal_core.types import InputError
from tests.training.synthetic import make_dataset, make_run


class Copied:
    """Stands in for the event of a CUDA copy."""

    waited = 0

    def synchronize(self):
        Copied.waited += 1


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Values are read one step late, as on a CUDA device."""
    at_once = steps.read_later
    monkeypatch.setattr(
        steps, "read_later", lambda terms: dataclasses.replace(at_once(terms), copied=Copied())
    )
    Copied.waited = 0


def lines(run, kind):
    table = run.metrics()
    return table[table["kind"] == kind].drop(columns=["time", "seconds", "samples_per_second", "memory_mb"])


def test_values_read_late_are_the_same(home, as_on_cuda, monkeypatch):
    make_dataset(home)
    late = make_run(home, run_id="late")
    train(home, late)
    assert Copied.waited == 16
    monkeypatch.undo()
    monkeypatch.setenv("TAL_HOME", str(home))
    at_once = make_run(home, run_id="at-once")
    train(home, at_once)
    for kind in ("step", "epoch", "validation"):
        assert lines(late, kind).equals(lines(at_once, kind))
    assert late.status()["step"] == 16


def test_stopped_with_a_step_unread_goes_on_exactly(home, as_on_cuda):
    make_dataset(home)
    whole, parted = make_run(home, run_id="whole"), make_run(home, run_id="parted")
    train(home, whole)
    asked = iter([False] * 11 + [True] * 5)
    with pytest.MonkeyPatch.context() as patch:
        take = steps.Steps.take

        def stopping(self, batch, rate):
            if next(asked):
                (parted.folder / "stop").touch()
            return take(self, batch, rate)

        patch.setattr(steps.Steps, "take", stopping)
        assert train(home, parted) == "stopped"
    assert parted.status()["step"] == 12
    train(home, parted, resume=True)
    assert lines(whole, "epoch")["loss"].tolist() == lines(parted, "epoch")["loss"].tolist()


@pytest.mark.parametrize("late", [False, True])
def test_the_step_of_a_wrong_loss_is_named(home, late, request, monkeypatch):
    if late:
        request.getfixturevalue("as_on_cuda")
    make_dataset(home)
    take = steps.Steps.take
    numbers = iter(range(100))

    def spoiled(self, batch, rate):
        if next(numbers) == 10:
            batch = {**batch, "windows": batch["windows"] * float("nan")}
        return take(self, batch, rate)

    monkeypatch.setattr(steps.Steps, "take", spoiled)
    with pytest.raises(InputError, match="epoch 2, step 3: loss became nan"):
        train(home, make_run(home))


def test_gradient_norm_is_logged_before_clipping(home):
    make_dataset(home)
    free, clipped = make_run(home, run_id="free"), make_run(home, run_id="clipped", gradient_clip=1e-3)
    for run in (free, clipped):
        train(home, run)
    norms = [lines(run, "step")["gradient_norm"].to_numpy(float) for run in (free, clipped)]
    assert norms[0][0] == norms[1][0] > 1e-2 and not (norms[0] == norms[1]).all()


def test_the_network_is_compiled_for_training_alone(home, monkeypatch):
    make_dataset(home)
    calls = {"training": 0, "detecting": 0}

    def compile_(forward):
        def compiled(*arguments):
            calls["training" if torch.is_grad_enabled() else "detecting"] += 1
            return forward(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    plain, compiled = make_run(home, run_id="plain"), make_run(home, run_id="compiled", compile=True)
    for run in (plain, compiled):
        train(home, run)
    assert calls == {"training": 16, "detecting": 0}
    assert lines(plain, "epoch").equals(lines(compiled, "epoch"))


def test_without_a_compiler_it_trains_all_the_same_and_says_so(home, monkeypatch):
    make_dataset(home)

    def broken(forward):
        def compiled(*_):
            raise TorchDynamoException("no C++ compiler\nwas found")

        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    plain, compiled = make_run(home, run_id="plain"), make_run(home, run_id="compiled", compile=True)
    for run in (plain, compiled):
        assert train(home, run) == "finished"
    assert lines(plain, "epoch").equals(lines(compiled, "epoch"))
    log = compiled.log_tail(200)
    assert log.count("Can't compile the network here") == 1 and "no C++ compiler" in log


def test_warnings_of_data_and_settings_are_logged(home):
    make_dataset(home)
    config = build_config("temporalmaxer", {"epochs": 1, "embed_dim": 8, "head_dim": 8, "device": "cpu"})
    run = create_run(home, "tiny", "temporalmaxer", config)
    train(home, run)
    assert "Warning: with ema_decay=0.999 and only 3 steps" in run.log_tail(50)


def test_batches_keep_their_form_on_the_device():
    batch = {"a": torch.ones(2), "b": [torch.zeros(1), (3, torch.ones(1, dtype=torch.int64))]}
    moved = steps.to_device(batch, torch.device("cpu"))
    assert torch.equal(moved["a"], batch["a"]) and moved["b"][1][0] == 3
    assert steps.num_samples({"x": [torch.ones(3)]}) == 3 and steps.num_samples("none") == 1
