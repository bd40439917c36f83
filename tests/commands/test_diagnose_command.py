"""``python -m tal_core diagnose`` as a person types it."""

import json

import pytest

from tal_core.cli import main


@pytest.fixture
def files(golden):
    folder = golden / "evaluation" / "map_thumos"
    return [
        "diagnose",
        "--ground-truth",
        str(folder / "ground_truth.json.gz"),
        "--detections",
        str(folder / "predictions.json.gz"),
    ]


def test_diagnose_equals_the_reference(files, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert main([*files, "--json", str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert numbers["false_positives"]["average_mAP_N"] == pytest.approx(0.5671201242416222, abs=1e-9)
    assert numbers["sensitivity"]["buckets"]["coverage"]["XS"] == pytest.approx(0.5613615145554541, abs=1e-9)
    assert numbers["false_negatives"]["num_false_negatives"] == [691]
    text = capsys.readouterr().out
    assert "subset test, tIoU 0.5" in text
    assert "Fixing this error would gain most: missed" in text


def test_several_thresholds_are_averaged(files, tmp_path):
    out = tmp_path / "numbers.json"
    assert main([*files, "--tiou", "0.3:0.7:0.1", "--json", str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert numbers["false_positives"]["average_mAP_N"] == pytest.approx(0.5383200491243472, abs=1e-9)


@pytest.mark.parametrize(
    ("extra", "words"),
    [(["--subset", "moon"], "moon"), (["--tiou", "2"], "tIoU"), (["--buckets", "x"], "buckets")],
)
def test_wrong_input_gets_one_line(files, capsys, extra, words):
    try:
        code = main([*files, *extra])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and words in error


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["diagnose", "--help"])
    assert "example: python -m tal_core diagnose" in capsys.readouterr().out
