"""The commands as a person types them: results, files, exit codes, one clear line for wrong input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tal_core.cli import COMMANDS as COMMAND_FILES
from tal_core.cli import build_parser, commands_table, main
from tal_core.workspace import DEMO

COMMANDS = [
    "demo",
    "datasets",
    "datasets add",
    "datasets check",
    "datasets subset",
    "train",
    "predict",
    "evaluate",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with a small dataset and a run trained on it through the commands."""
    home = tmp_path_factory.mktemp("cli") / "workspace"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAL_HOME", str(home))
        assert main(["datasets", "subset", "demo", "mini", "--videos", "8"]) == 0
        settings = ["--set", "epochs=1", "--set", "windows_per_epoch=512", "--set", "validate_every=0"]
        assert (
            main(["train", "--dataset", "mini", "--model", "baseline", "--run-id", "first", *settings]) == 0
        )
    return home


@pytest.fixture
def in_trained(trained, monkeypatch):
    monkeypatch.setenv("TAL_HOME", str(trained))
    return trained


def refused(capsys, *arguments: str) -> str:
    """Run a command that must be refused; return its one line."""
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"example: python -m tal_core {command}" in capsys.readouterr().out


def test_every_option_has_help():
    def parsers(parser):
        yield parser
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for child in action.choices.values():
                    yield from parsers(child)

    silent = [
        f"{parser.prog} {action.option_strings[0]}"
        for parser in parsers(build_parser())
        for action in parser._actions
        if action.option_strings and not action.help
    ]
    assert not silent


def test_the_table_of_commands_names_every_command():
    rows = [line.split("`")[1] for line in commands_table().splitlines()[2:]]
    assert {name for name in rows if " " not in name} == {name.replace("_", "-") for name in COMMAND_FILES}
    assert {"datasets add", "datasets check"} < set(rows) and len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("started", "name"), [("/usr/bin/tal", "tal"), ("/x/tal_core/__main__.py", "python -m tal_core")]
)
def test_help_names_the_program_as_it_was_started(monkeypatch, capsys, started, name):
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit):
        main(["datasets", "add", "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {name} datasets add") and f"example: {name} datasets add salads" in said


def test_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "tal_core", "evaluate"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--ground-truth" in result.stderr


def test_evaluate_equals_the_reference(golden, tmp_path, capsys):
    folder = golden / "evaluation" / "map_thumos"
    out = tmp_path / "numbers.json"
    files = [
        "--ground-truth",
        str(folder / "ground_truth.json.gz"),
        "--detections",
        str(folder / "predictions.json.gz"),
    ]
    assert main(["evaluate", *files, "--json", str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert numbers["average_mAP"] == pytest.approx(0.511434, abs=1e-6)
    counts = {"num_videos", "num_ground_truth", "num_detections", "ignored"}
    assert set(numbers) == {"tiou", "mAP", "average_mAP", "per_class"} | counts
    assert numbers["num_videos"] == 212
    assert "51.14" in capsys.readouterr().out


def test_protocols_differ_where_annotations_repeat(golden, tmp_path):
    folder = golden / "evaluation" / "map_activitynet"
    files = [
        "--ground-truth",
        str(folder / "ground_truth.json.gz"),
        "--detections",
        str(folder / "predictions.json.gz"),
    ]
    for protocol, expected in (("official", 0.557061), ("toolbox", 0.554862)):
        out = tmp_path / f"{protocol}.json"
        tiou = ["--tiou", "0.5:0.95:0.05", "--subset", "validation"]
        assert main(["evaluate", *files, *tiou, "--protocol", protocol, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["average_mAP"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--tiou", "0.3:0.7"], "tIoU"),
        (["--tiou", "1.5"], "tIoU"),
        (["--subset", "holiday"], "holiday"),
        (["--protocol", "mine"], "mine"),
        (["--detections", "missing.json"], "missing.json"),
        (["--json", "/dev/null/numbers.json"], "numbers.json"),
    ],
)
def test_evaluate_refuses(golden, capsys, change, says):
    folder = golden / "evaluation" / "map_thumos"
    files = [
        "--ground-truth",
        str(folder / "ground_truth.json.gz"),
        "--detections",
        str(folder / "predictions.json.gz"),
    ]
    assert says in refused(capsys, "evaluate", *files, *change)


def test_a_whole_first_session(in_trained, tmp_path, capsys):
    run = in_trained / "runs" / "first"
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    numbers = json.loads((run / "evaluation.json").read_text())

    out = tmp_path / "detections.json"
    assert main(["predict", "--run", "first", "--dataset", "mini", "--out", str(out)]) == 0
    again = tmp_path / "again.json"
    truth = in_trained / "datasets" / "mini.annotations.json"
    assert (
        main(["evaluate", "--ground-truth", str(truth), "--detections", str(out), "--json", str(again)]) == 0
    )
    assert json.loads(again.read_text()) == numbers

    capsys.readouterr()
    assert main(["datasets", "list"]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["demo", "mini"]
    assert main(["datasets", "check", "mini"]) == 0
    assert "8 videos (8 usable" in capsys.readouterr().out


def test_predict_one_file(in_trained, tmp_path, capsys):
    features = next((DEMO / "features").glob("*.npy"))
    out = tmp_path / "one.csv"
    assert main(["predict", "--run", "first", "--features", str(features), "--out", str(out)]) == 0
    assert out.read_text().startswith("video_id,start,end,label,score\n" + features.stem)


def test_predict_one_video_as_its_features(in_trained, tmp_path):
    video = min((DEMO / "videos").glob("*.mp4"), key=lambda path: path.stat().st_size)
    results = []
    for source in (["--video", str(video)], ["--features", str(DEMO / "features" / f"{video.stem}.npy")]):
        out = tmp_path / "detections.json"
        assert main(["predict", "--run", "first", *source, "--out", str(out)]) == 0
        entries = json.loads(out.read_text())["results"][video.stem]
        results.append(np.array([[*entry["segment"], entry["score"]] for entry in entries[:20]]))
    # The features are stored as float16.
    np.testing.assert_allclose(results[0][:, 2], results[1][:, 2], atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--dataset", "mini"], "--model"),
        (["train", "--dataset", "nowhere", "--model", "baseline"], "nowhere"),
        (["train", "--dataset", "mini", "--model", "alchemy"], "alchemy"),
        (["train", "--dataset", "mini", "--model", "baseline", "--set", "epochs"], "key=value"),
        (["train", "--dataset", "mini", "--model", "baseline", "--set", "epochs=0"], "epochs"),
        (["train", "--dataset", "mini", "--model", "baseline", "--set", "epoch=3"], "Did you mean epochs"),
        (["train", "--dataset", "mini", "--model", "baseline", "--run-id", "first"], "first"),
        (["train", "--dataset", "mini", "--model", "baseline", "--run-id", "../out"], "../out"),
        (["train", "--resume"], "--run-id"),
        (["train", "--resume", "--run-id", "gone"], "gone"),
        (["predict", "--run", "first", "--out", "x.json"], "--dataset"),
        (["predict", "--run", "first", "--dataset", "mini", "--out", "x.txt"], "x.txt"),
        (["predict", "--run", "first", "--features", "none.npy", "--out", "x.json"], "none.npy"),
        (["predict", "--run", "first", "--video", "none.mp4", "--out", "x.json"], "none.mp4"),
        (["predict", "--run", "gone", "--dataset", "mini", "--out", "x.json"], "gone"),
        (["datasets", "check", "gone"], "gone"),
        (["datasets", "subset", "demo", "mini2"], "--videos"),
        (["datasets", "subset", "demo", "mini2", "--classes", "juggling"], "juggling"),
        (["datasets", "remove", "demo"], "demo"),
        (["datasets", "add", "x", "--annotations", "a.json", "--features", "f", "--split", "3"], "--split"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_wrong_input_gets_one_line(in_trained, capsys, arguments, says):
    assert says in refused(capsys, *arguments)
