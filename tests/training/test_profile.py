"""What a method costs: counted exactly where it can be, measured honestly elsewhere."""

import subprocess
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tal_core.cli import main
from tal_core.models.registry import METHODS, get_method
from tal_core.models.settings import build_config
from tal_core.training import profile
from tal_core.training.profile import measure, measure_apart, peak_memory, uncounted_operations
from tal_core.types import InputError
from tests.training import toy_method
from tests.training.synthetic import FAST, make_dataset

SMALL = {"device": "cpu", "batch_size": 2, "length": 16, "embed_dim": 16, "head_dim": 16}
SMALL |= {"base_channels": 16, "map_channels": 8, "sample_channels": 16, "tem_channels": 16}


def test_counts_weights_and_operations_and_times_steps(home):
    data = make_dataset(home)
    config = toy_method.ToyConfig(width=2, epochs=3, device="cpu")
    cost = measure(toy_method.METHOD, config, data, seconds=1)
    assert cost.parameters == (5 * 2 + 2) + (2 * 3 + 3)
    flops = 2 * 60 * (5 * 2 + 2 * 3)  # a video of 60 snippets lasts 30 s
    assert cost.gflops_per_minute == pytest.approx(flops / 1e9 * 2)
    assert cost.video_seconds == 30 and cost.video_snippets == 60 and cost.batch_size == 1
    assert cost.steps == 3 * 6
    assert cost.training_seconds == pytest.approx(18 * cost.step_seconds + 2 * cost.detection_seconds)
    assert cost.steps_per_second == pytest.approx(1 / cost.step_seconds)


def test_linear_layers_over_sequences_are_counted():
    layer, sequence = torch.nn.Linear(32, 64), torch.ones(2, 100, 32)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=uncounted_operations()) as counter:
        layer(sequence)
    assert counter.get_total_flops() == 2 * 200 * 32 * 64


def test_the_first_slow_steps_are_left_out_and_time_is_bounded():
    calls = []

    def work(number):
        time.sleep(0.05 if len(calls) < profile.WARM_UPS else 0.005)
        calls.append(number)

    begun = time.perf_counter()
    assert profile._median_time(work, 1000, 0.3) < 0.04
    assert time.perf_counter() - begun < 3


def test_one_measurement_is_taken_however_slow():
    assert profile._median_time(lambda number: time.sleep(0.05), 5, 0.01) >= 0.05


def test_memory_is_that_of_the_block():
    def block(mebibytes):
        return torch.ones(mebibytes * 2**20 // 4)

    # Freed blocks below one still in use stay with the allocator, which would serve the next from them.
    block(30)  # raises the size up to which glibc takes blocks from its heap
    blocks, on_top = [block(20) for _ in range(6)], block(20)
    del blocks
    with peak_memory(torch.device("cpu")) as memory:
        kept = block(50)
        time.sleep(0.3)
        del kept
    assert 40 * 2**20 < memory() < 200 * 2**20
    assert on_top.all()


def test_without_a_dataset_the_sizes_are_those_of_thumos(monkeypatch):
    typical = profile.typical_dataset(videos=4, snippets=60)
    monkeypatch.setattr(profile, "typical_dataset", lambda: typical)
    cost = measure(get_method("baseline"), build_config("baseline", FAST), seconds=0.5)
    hidden, features, classes = 16, 2048, 20
    assert cost.parameters == hidden * (3 * features + 1) + (hidden + 1) * (classes + 1)
    assert cost.video_seconds == pytest.approx(60 * 4 / 30)


@pytest.mark.parametrize("model", METHODS)
def test_every_method_can_be_measured(home, model):
    data = make_dataset(home)
    fields = METHODS[model].config.model_fields
    config = build_config(model, {name: value for name, value in SMALL.items() if name in fields})
    assert measure(get_method(model), config, data, seconds=0.1).parameters > 0


def test_in_a_process_of_its_own(home):
    make_dataset(home)
    cost = measure_apart(home, "tiny", "baseline", build_config("baseline", FAST))
    assert cost.parameters > 0 and cost.steps == 16


def test_what_goes_wrong_there_is_told_here(home, monkeypatch):
    def failing(*_, **__):
        return subprocess.CompletedProcess([], 2, "", "there is no dataset 'absent'\n")

    monkeypatch.setattr(profile.subprocess, "run", failing)
    with pytest.raises(InputError, match="no dataset 'absent'"):
        measure_apart(home, "absent", "baseline", build_config("baseline", FAST))


def test_a_measurement_that_takes_too_long_is_ended(home, monkeypatch):
    def slow(*_, timeout, **__):
        raise subprocess.TimeoutExpired("profile", timeout)

    monkeypatch.setattr(profile.subprocess, "run", slow)
    with pytest.raises(InputError, match="longer than 5 s"):
        measure_apart(home, "tiny", "baseline", build_config("baseline", FAST), limit=5)


def test_command_prints_every_figure(home, capsys):
    make_dataset(home)
    settings = [f"{key}={value}" for key, value in FAST.items()]
    arguments = ["profile", "--model", "baseline", "--dataset", "tiny", "--seconds", "0.5"]
    assert main([*arguments, *[part for pair in settings for part in ("--set", pair)]]) == 0
    shown = capsys.readouterr().out
    for word in ("parameters", "GFLOPs per minute", "MB in training", "steps/s", "times real time"):
        assert word in shown
