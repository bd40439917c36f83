import errno
import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.postprocessing.candidates import load_candidates, load_snippet_scores
from tal_core.runs.run import Run, create_run
from tal_core.training import checkpoint, loop
from tal_core.training.loop import train
from tal_core.types import InputError
from tests.training import toy_method
from tests.training.synthetic import make_dataset, make_run


def epoch_losses(run: Run) -> list[float]:
    metrics = run.metrics()
    return metrics.loc[metrics["kind"] == "epoch", "loss"].tolist()


def stop_at(monkeypatch, run: Run, step: int) -> None:
    """Ask for a stop, as a person would, when ``step`` steps have been taken."""
    advance = checkpoint.Position.advance

    def count(self, terms):
        advance(self, terms)
        if self.total_steps == step:
            (run.folder / "stop").touch()

    monkeypatch.setattr(checkpoint.Position, "advance", count)


def test_a_run_ends_with_every_file_of_the_run_directory(home):
    data = make_dataset(home)
    run = make_run(home, epochs=8)
    assert train(home, run) == "finished"

    status = run.status()
    assert status["state"] == "finished" and "average mAP" in status["message"]
    assert status["pid"] == os.getpid() and status["created"] <= status["started"]
    assert status["epoch"] == status["epochs"] == 8 and status["step"] == status["steps"] == 64
    assert status["samples_per_second"] > 0 and status["memory_mb"] > 0
    evaluation = run.evaluation()
    assert evaluation.average_mAP > 0.5, "a planted signal is found"
    assert status["average_mAP"] == pytest.approx(evaluation.average_mAP)

    metrics = run.metrics()
    assert set(metrics["kind"]) == {"step", "epoch", "validation"}
    assert metrics.loc[metrics["kind"] == "validation", "epoch"].tolist() == list(range(1, 9))
    losses = epoch_losses(run)
    assert len(losses) == 8 and losses[-1] < losses[0]

    videos = data.videos("testing")
    candidates, labels = load_candidates(run.folder / "candidates.npz")
    assert list(candidates) == videos and labels == data.labels
    scores, grid, labels = load_snippet_scores(run.folder / "snippet_scores.npz", videos[1])
    assert scores.shape == (60, 3) and grid == data.grid(videos[1]) and labels == data.labels
    detections = run.detections()
    assert set(detections["video_id"]) == set(videos) and np.isfinite(detections["score"]).all()
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["dataset"]["fingerprint"] == data.fingerprint()
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0] or environment["packages"]
    assert {p.name for p in run.checkpoints.iterdir()} == {"last.safetensors", "last.pt", "best.safetensors"}
    assert "Finished" in run.log_tail(1)


def test_same_config_same_losses_and_detections(home):
    make_dataset(home)
    runs = [make_run(home, run_id=name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    for run in runs:
        torch.rand(7)  # what happened before in the process doesn't matter
        train(home, run)
    first, same, other = map(epoch_losses, runs)
    assert first == same and first != other
    assert (runs[0].folder / "detections.json").read_text() == (
        runs[1].folder / "detections.json"
    ).read_text()


@pytest.mark.parametrize("step", [8, 13], ids=["end of epoch", "inside an epoch"])
@pytest.mark.parametrize("ema", [None, 0.9], ids=["plain", "averaged"])
def test_stopped_and_resumed_equals_uninterrupted(home, monkeypatch, step, ema):
    make_dataset(home)
    settings = {"epochs": 3, "dropout": 0.3, "ema_decay": ema, "schedule": "cosine", "warmup_epochs": 0.5}
    whole, parted = make_run(home, run_id="whole", **settings), make_run(home, run_id="parted", **settings)
    train(home, whole)
    with monkeypatch.context() as patch:
        stop_at(patch, parted, step)
        assert train(home, parted) == "stopped"
    status = parted.status()
    assert status["state"] == "stopped" and status["step"] == step and "Resume" in status["message"]
    assert not (parted.folder / "stop").exists()
    with pytest.raises(InputError, match="Resume it"):
        train(home, parted)
    assert train(home, parted, resume=True) == "finished"
    assert epoch_losses(whole) == epoch_losses(parted)
    weights = [load_file(run.checkpoints / "last.safetensors") for run in (whole, parted)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(InputError, match="finished already"):
        train(home, parted, resume=True)


def test_stop_during_the_final_detections_keeps_the_training(home, monkeypatch):
    make_dataset(home)
    run = make_run(home, validate_every=0)
    predict = loop.predict_videos

    def asked_to_stop(*arguments, **options):
        (run.folder / "stop").touch()
        return predict(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "predict_videos", asked_to_stop)
        assert train(home, run) == "stopped"
    assert train(home, run, resume=True) == "finished"
    assert len(epoch_losses(run)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(home, number):
    make_dataset(home)
    run = make_run(home, epochs=500)
    before = signal.getsignal(number)
    timer = threading.Timer(0.7, os.kill, (os.getpid(), number))
    timer.start()
    assert train(home, run) == "stopped"
    assert run.status()["state"] == "stopped" and (run.checkpoints / "last.pt").exists()
    assert signal.getsignal(number) is before


def test_two_trainings_of_one_run_at_once(home):
    make_dataset(home)
    run = make_run(home, epochs=300)
    refusals = []

    def second(done, total, message):
        if not refusals:
            with pytest.raises(InputError, match=rf"already training \(pid {os.getpid()}\)") as refusal:
                train(home, run, resume=True)
            refusals.append(refusal)
            (run.folder / "stop").touch()

    assert train(home, run, progress=second) == "stopped"
    assert refusals


def broken_loss(monkeypatch, error_or_value, at=3):
    model = METHODS["baseline"].build
    loss, calls = model.loss, []

    def broken(self, batch):
        calls.append(1)
        if len(calls) == at:
            if isinstance(error_or_value, BaseException):
                raise error_or_value
            return {"loss": loss(self, batch)["loss"] * error_or_value}
        return loss(self, batch)

    monkeypatch.setattr(model, "loss", broken)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (float("nan"), r"epoch 1, step 3: loss became nan. Lower learning_rate \(now 0.01\)"),
        (float("inf"), "loss became inf"),
        (torch.OutOfMemoryError("CUDA out of memory"), r"out of memory on cpu. Lower batch_size \(now 32\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "out of memory"),
        (MemoryError(), "out of memory"),
        (OSError(errno.EIO, "Input/output error", "x.npy"), "x.npy: Input/output error"),
    ],
    ids=["nan", "infinity", "cuda memory", "cpu memory", "python memory", "disk error"],
)
def test_failures_are_named_and_kept(home, monkeypatch, trouble, said):
    make_dataset(home)
    run = make_run(home)
    broken_loss(monkeypatch, trouble)
    with pytest.raises(InputError, match=said):
        train(home, run)
    status = run.status()
    assert status["state"] == "failed" and "\n" not in status["error"]
    assert status["error"] in run.log_tail()
    monkeypatch.undo()
    monkeypatch.setenv("TAL_HOME", str(home))
    assert train(home, run, resume=True) == "finished"


def test_a_fault_of_the_program_leaves_its_traceback_in_the_log(home, monkeypatch):
    make_dataset(home)
    run = make_run(home)
    broken_loss(monkeypatch, KeyError("surprise"))
    with pytest.raises(KeyError):
        train(home, run)
    assert run.status()["state"] == "failed" and run.status()["error"] == "KeyError: 'surprise'"
    assert "Traceback" in run.log_tail() and "in broken" in run.log_tail()


def test_full_disk(home, monkeypatch):
    make_dataset(home)
    run = make_run(home)
    real = checkpoint.write_bytes

    def full(path, content):
        if path.parent.name == "checkpoints" or path.name == "status.json":
            raise InputError(
                "can't be written (No space left on device)", where=path, hint="Free some space."
            )
        real(path, content)

    for module in (
        "tal_core.models.shared.weights",
        "tal_core.training.checkpoint",
        "tal_core.background.job_folder",
    ):
        monkeypatch.setattr(f"{module}.write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        train(home, run)
    status = run.status()  # written into the place of the old one
    assert status["state"] == "failed" and "No space left" in status["error"]


def test_run_deleted_while_it_trains_stays_deleted(home):
    make_dataset(home)
    run = make_run(home, epochs=500)

    def delete(done, total, message):
        if done == 5:
            shutil.rmtree(run.folder)

    with pytest.raises(InputError, match="deleted while it was at work"):
        train(home, run, progress=delete)
    assert not run.folder.exists()


def test_best_checkpoint_is_used_when_asked_for(home):
    make_dataset(home)
    run = make_run(home, epochs=3, checkpoint="best")
    train(home, run)
    metrics = run.metrics()
    measured = metrics[metrics["kind"] == "validation"].set_index("epoch")["average_mAP"]
    assert len(measured) == 3
    assert run.evaluation().average_mAP == pytest.approx(measured.max())


def test_videos_of_one_snippet_and_one_class(home):
    make_dataset(home, classes=("jump",), videos=4, snippets=1)
    run = make_run(home)
    assert train(home, run) == "finished"
    assert run.evaluation().average_mAP == pytest.approx(1.0)


def test_hardly_any_ground_truth_and_nothing_to_evaluate_on(home):
    make_dataset(home, videos=4, annotated=False)
    run = make_run(home)
    assert train(home, run) == "finished"
    assert run.evaluation() is None and "no mAP" in run.status()["message"]
    assert len(epoch_losses(run)) == 2


def test_resume_notices_that_the_dataset_has_changed(home, monkeypatch):
    data = make_dataset(home)
    run = make_run(home)
    stop_at(monkeypatch, run, 4)
    train(home, run)
    path = data.entry.annotations
    path.write_text(path.read_text().replace('"wave"', '"zoom"'))
    with pytest.raises(InputError, match="other class names"):
        train(home, run, resume=True)


def test_a_truncated_state_is_named(home, monkeypatch):
    make_dataset(home)
    run = make_run(home)
    stop_at(monkeypatch, run, 4)
    train(home, run)
    state = run.checkpoints / "last.pt"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(InputError, match="can't be read as a training state"):
        train(home, run, resume=True)


def test_a_device_that_is_not_there(home, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    make_dataset(home)
    with pytest.raises(InputError, match="'cuda' isn't available here"):
        train(home, make_run(home, device="cuda"))


def test_half_precision_on_the_cpu(home):
    make_dataset(home)
    assert train(home, make_run(home, precision="bfloat16")) == "finished"
    with pytest.raises(InputError, match="float16 needs CUDA"):
        train(home, make_run(home, run_id="half", precision="float16"))


def test_a_toy_method_takes_one_file_and_one_line(home, monkeypatch):
    """Anything with a loss and candidates trains in the same loop."""
    monkeypatch.setitem(METHODS, "toy", toy_method.METHOD)
    make_dataset(home)
    run = create_run(home, "tiny", "toy", build_config("toy", {"epochs": "2", "width": "3"}), "toy")
    assert train(home, run) == "finished"
    assert {"loss", "size"} <= set(run.metrics().columns)
    assert not (run.folder / "snippet_scores.npz").exists()
