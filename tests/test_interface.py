"""The public interface: each function on real, small data, from files and from tables."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tal_core as tal
from tal_core import interface
from tal_core.cli import main
from tal_core.types import DETECTION_COLUMNS, GROUND_TRUTH_COLUMNS
from tal_core.workspace import DEMO

TRUTH = DEMO / "annotations.json"
RUN = DEMO / "runs" / "demo-baseline"
DETECTIONS = RUN / "detections.json"
FUNCTIONS = [name for name in tal.__all__ if inspect.isfunction(getattr(interface, name, None))]


def loaded_by(code: str) -> tuple[float, list[str]]:
    """Seconds that a fresh process needs for ``code``, and which heavy packages it has then."""
    program = f"""
import json, sys, time
began = time.process_time()
{code}
took = time.process_time() - began
heavy = ("torch", "pandas", "numpy", "cv2", "plotly", "pydantic")
print(json.dumps([took, [name for name in heavy if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def test_importing_it_loads_nothing_heavy():
    seconds, heavy = min(loaded_by("import tal_core") for _ in range(3))
    assert seconds < 0.1
    assert heavy == []


def test_evaluating_needs_no_torch():
    code = f"import tal_core as tal; assert tal.evaluate({str(TRUTH)!r}, {str(DETECTIONS)!r}).average_mAP > 0"
    assert "torch" not in loaded_by(code)[1]


def test_names_are_there_and_unknown_ones_are_not():
    assert set(tal.__all__) <= set(dir(tal))
    assert all(hasattr(tal, name) for name in tal.__all__)
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        tal.detekt  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_typed_and_documented(name):
    function = getattr(tal, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert "Raises:" in function.__doc__


def test_annotations_and_detections_are_plain_tables():
    annotations = tal.load_annotations(TRUTH)
    detections = tal.load_detections(DETECTIONS)
    assert tuple(annotations.ground_truth.columns) == GROUND_TRUTH_COLUMNS
    assert tuple(detections.columns) == DETECTION_COLUMNS
    assert len(annotations.videos) == 60
    assert len(detections) == len(tal.open_run("demo-baseline").detections())


def test_a_dataset_gives_tables_and_arrays():
    dataset = tal.open_dataset("demo")
    video = dataset.videos("testing")[0]
    assert dataset.features(video).shape == (len(dataset.features(video)), dataset.num_features)
    assert len(dataset.ground_truth("testing")) == 147


def test_evaluate_says_what_the_run_recorded_of_files_and_tables_alike():
    annotations = tal.load_annotations(TRUTH)
    truth, detections = tal.open_dataset("demo").ground_truth("testing"), tal.load_detections(DETECTIONS)
    recorded = json.loads((RUN / "evaluation.json").read_text())
    for ground_truth in (TRUTH, str(TRUTH), annotations, truth):
        evaluation = tal.evaluate(ground_truth, detections)
        assert evaluation.average_mAP == pytest.approx(recorded["average_mAP"], abs=1e-9)
        np.testing.assert_allclose(evaluation.mAP, recorded["mAP"], atol=1e-9)
    assert tal.evaluate(TRUTH, DETECTIONS, tiou=0.5).mAP == pytest.approx(recorded["mAP"][2], abs=1e-9)


@pytest.mark.parametrize("name", ["proposals", "segmentation"])
def test_scores_are_those_of_the_command(name, tmp_path):
    out = tmp_path / "out.json"
    assert (
        main([name, "--ground-truth", str(TRUTH), "--detections", str(DETECTIONS), "--json", str(out)]) == 0
    )
    scores = getattr(tal, name)(TRUTH, tal.load_detections(DETECTIONS))
    said = scores.to_json() if name == "proposals" else scores.means()
    assert said == json.loads(out.read_text())


def test_diagnose_profiles_the_errors():
    diagnosis = tal.diagnose(TRUTH, DETECTIONS)
    assert diagnosis.average_map == pytest.approx(tal.evaluate(TRUTH, DETECTIONS, tiou=0.5).average_mAP)
    assert set(diagnosis.fix_gain) and all(gain >= 0 for gain in diagnosis.fix_gain.values())
    assert "coverage" in diagnosis.characteristics


def test_compare_finds_the_run_with_half_the_segments_worse():
    detections = tal.load_detections(DETECTIONS)
    half = detections.iloc[::2]
    comparison = tal.compare(TRUTH, half, detections, draws=100)
    averages = [tal.evaluate(TRUTH, table).average_mAP for table in (half, detections)]
    assert comparison.interval.first == pytest.approx(averages[0])
    assert comparison.interval.second == pytest.approx(averages[1])
    assert comparison.interval.low <= comparison.interval.difference <= comparison.interval.high
    assert comparison.classes["second"].mean() == pytest.approx(averages[1])
    assert len(comparison.annotations) == 147 and len(comparison.videos) == 18


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="score"), "has no column score"),
        (lambda t: t.assign(end=t["start"] - 1), "ends before it starts"),
        (lambda t: t.assign(score=np.nan), "not a finite number"),
        (lambda t: t.assign(start="soon"), "numbers of seconds"),
    ],
)
def test_faulty_tables_are_refused_in_one_line(change, says):
    with pytest.raises(tal.InputError, match=says):
        tal.evaluate(TRUTH, change(tal.load_detections(DETECTIONS)))


def test_a_table_may_know_subsets_durations_and_ambiguous_segments():
    truth = pd.DataFrame(
        {
            "video_id": ["a", "a", "b"],
            "start": [0, 4, 1],
            "end": [2, 6, 3],
            "label": ["wave", "Ambiguous", "wave"],
            "subset": ["testing", "testing", "training"],
            "duration": [10.0, 10.0, 5.0],
        }
    )
    detections = pd.DataFrame(
        {"video_id": ["a", "a"], "start": [0, 4], "end": [2, 6], "label": "wave", "score": [0.5, 0.9]}
    )
    strict = tal.evaluate(truth, detections, tiou=0.5)
    assert (strict.num_videos, strict.num_ground_truth) == (1, 1)
    assert strict.average_mAP == pytest.approx(0.5)
    assert tal.evaluate(truth, detections, tiou=0.5, excuse_ambiguous=True).average_mAP == 1.0
    assert tal.segmentation(truth, detections, step=1).means()["accuracy"] == pytest.approx(80.0)


@pytest.mark.integration
def test_train_and_predict(home):
    run = tal.train("demo", "baseline", preset="defaults", settings={"epochs": 1}, run_id="first")
    assert run.folder == home / "runs" / "first"
    assert run.evaluation().average_mAP == pytest.approx(tal.evaluate(TRUTH, run.detections()).average_mAP)
    pd.testing.assert_frame_equal(
        tal.predict(run, dataset="demo").round(3), run.detections().round(3), check_dtype=False
    )
    dataset = tal.open_dataset("demo")
    video = dataset.videos("testing")[0]
    of_array = tal.predict("first", features=np.asarray(dataset.features(video)))
    of_file = tal.predict("first", features=DEMO / "features" / f"{video}.npy")
    assert set(of_file["video_id"]) == {video}
    np.testing.assert_array_equal(of_array["score"], of_file["score"])
    with pytest.raises(tal.InputError, match="nothing to detect in"):
        tal.predict(run)
    with pytest.raises(tal.InputError, match="epoch"):
        tal.train("demo", "baseline", settings={"epochs": -1})


@pytest.mark.integration
def test_extract_and_stream(tmp_path):
    video = min((DEMO / "videos").glob("*.mp4"))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / video.name).symlink_to(video)
    table = tal.extract(tmp_path / "films", tmp_path / "features", processes=1)
    assert table["state"].tolist() == ["done"]
    features = np.load(table["features"].iloc[0])
    assert len(features) == table["snippets"].iloc[0]
    assert table.attrs["stride"] > 0

    of_video = tal.predict("demo-baseline", video=video)
    records = list(tal.stream("demo-baseline", video))
    assert [records[0]["kind"], records[-1]["kind"]] == ["stream", "over"]
    ends = [record for record in records if record["kind"] == "end"]
    assert ends and {record["label"] for record in ends} <= set(records[0]["labels"])
    assert len(of_video) >= len(ends)
    reports = tal.stream("demo-baseline", video)
    assert next(reports)["run"] == "demo-baseline"
    reports.close()  # leaving early ends the stream
