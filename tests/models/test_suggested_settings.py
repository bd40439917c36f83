"""Presets on the command line: auto by default, reasons and warnings printed, own settings first."""

import pytest

from tal_core.cli import main
from tal_core.models.data_summary import summarise
from tal_core.models.settings import build_config
from tal_core.models.suggested_settings import choose, merged, preset_titles
from tal_core.runs.run import list_runs
from tal_core.schema import to_text
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

TINY = ["--set", "epochs=1", "--set", "embed_dim=8", "--set", "head_dim=8", "--set", "device=cpu"]


def train(*arguments: str) -> int:
    return main(["train", "--dataset", "tiny", "--model", "temporalmaxer", *arguments])


def test_auto_is_the_default_and_prints_its_reasons(home, capsys):
    data = make_dataset(home)
    assert train(*TINY) == 0
    shown = capsys.readouterr().out
    chosen = choose("temporalmaxer", "auto", summarise(data))
    assert f"levels={chosen['levels'].value}\t{chosen['levels'].reason}" in shown
    assert "embed_dim=" not in shown, "what a person sets needs no reason"
    assert "warning: with ema_decay=" in shown, "one epoch is short"
    config = list_runs(home)[0].config()
    assert config["embed_dim"] == 8 and config["levels"] == chosen["levels"].value


def test_defaults_and_published_presets(home, capsys):
    make_dataset(home)
    assert train("--preset", "defaults", *TINY, "--run-id", "plain") == 0
    assert train("--preset", "epic-verb", *TINY, "--run-id", "epic") == 0
    assert "temporalmaxer_epic_slowfast_verb.yaml" in capsys.readouterr().out
    configs = {run.run_id: run.config() for run in list_runs(home) if not run.shipped}
    assert configs["plain"]["range_overlap"] == 1 and configs["epic"]["range_overlap"] == 2
    assert configs["plain"]["sequence_length"] == 2304


def test_an_unknown_preset_lists_those_there_are(home, capsys):
    make_dataset(home)
    assert train("--preset", "kinetics") == 2
    error = capsys.readouterr().err
    assert "no preset 'kinetics'" in error and "auto, defaults, thumos14" in error and error.count("\n") == 1


def test_presets_are_listed_with_the_settings(capsys):
    assert main(["train", "--settings", "--model", "tridet"]) == 0
    shown = capsys.readouterr().out
    assert "preset auto\t" in shown and "preset hacs-i3d\tHACS, I3D features" in shown


def test_resuming_takes_no_preset(capsys):
    assert main(["train", "--resume", "--run-id", "x", "--preset", "auto"]) == 2
    assert "neither --set nor --preset" in capsys.readouterr().err


def test_auto_needs_data():
    with pytest.raises(InputError, match="Give a dataset"):
        choose("tridet", "auto", None)


def test_shown_values_can_be_typed_again():
    for preset in preset_titles("actionformer"):
        if preset == "auto":
            continue
        config = build_config("actionformer", merged(choose("actionformer", preset, None), {}))
        typed = {name: to_text(value) for name, value in config.model_dump().items()}
        assert build_config("actionformer", typed) == config
