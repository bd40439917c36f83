import numpy as np
import pandas as pd
import pytest

from tal_core.data.dataset.in_memory import InMemoryDataset
from tal_core.models.data_summary import summarise
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.models.test_zoo import SMALL
from tests.training.synthetic import FAST, make_dataset

GRID = TimeGrid(0.5, 0.25)


def in_memory(videos=8, snippets=60, **settings):
    random = np.random.default_rng(0)
    features, rows = {}, []
    for number in range(videos):
        array = random.normal(0, 0.5, (snippets, 5)).astype(np.float32)
        for start in range(4, snippets - 14, 14):
            k, length = int(random.integers(2)), int(random.integers(4, 10))
            array[start : start + length, k] += 3
            rows.append((f"v{number}", start * 0.5, (start + length) * 0.5, ("kick", "wave")[k]))
        features[f"v{number}"] = array
    segments = pd.DataFrame(rows, columns=["video_id", "start", "end", "label"])
    subset_of = {"v3": "testing", "v7": "testing"}
    scores = dict.fromkeys(features, np.array([0.4, 0.6]))
    return InMemoryDataset(features, segments, GRID, subset_of, **{"video_scores": scores, **settings})


def test_the_baseline_trains_on_it_and_learns(home):
    data = in_memory()
    run = create_run(home, data, "baseline", build_config("baseline", {**FAST, "epochs": 8}), "run")
    assert train(home, run, dataset=data) == "finished"
    assert run.config()["dataset"] == "memory"
    assert run.status()["average_mAP"] > 0.5
    assert set(run.detections()["video_id"]) == {"v3", "v7"}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_on_it(home, name):
    data = in_memory()
    fields = METHODS[name].config.model_fields
    settings = {field: hint.value for field, hint in METHODS[name].suggest(summarise(data)).items()}
    settings |= {field: value for field, value in SMALL.items() if field in fields}
    settings |= {"epochs": 2, "warmup_epochs": 0, "validate_every": 1, "device": "cpu"}
    settings = {field: value for field, value in settings.items() if field in fields}
    run = create_run(home, data, name, build_config(name, settings), "run")
    assert train(home, run, dataset=data) == "finished"
    assert (run.folder / "detections.json").exists() and 0 <= run.status()["average_mAP"] <= 1


def test_it_answers_as_the_registered_dataset_of_the_same_content(home):
    files = make_dataset(home)
    videos = files.videos()
    data = InMemoryDataset(
        {video: files.features(video) for video in videos},
        files.ground_truth(),
        {video: files.grid(video) for video in videos},
        dict(zip(files.index["video_id"], files.index["subset"], strict=True)),
        tiou=files.tiou,
    )
    for ask in (
        lambda d: (d.labels, d.subsets, d.num_features, d.training_subset, d.evaluation_subset, d.tiou),
        lambda d: (d.videos(), d.videos("testing"), d.dtypes(videos), d.lengths(videos).tolist()),
        lambda d: [(d.duration(video), d.grid(video)) for video in videos],
        lambda d: d.ground_truth("testing").to_dict("list"),
        lambda d: d.ground_truth("testing", videos[:4]).to_dict("list"),
        lambda d: d.features(videos[0], 3, 9).tolist(),
    ):
        assert ask(data) == ask(files)


def test_half_precision_leaves_as_stored_or_as_float32():
    data = InMemoryDataset({"a": np.ones((3, 2), np.float16)}, one_segment(), GRID)
    assert data.features("a").dtype == np.float32
    assert data.features("a", 1, as_stored=True).dtype == np.float16


def test_what_it_refuses():
    array = np.ones((4, 2), np.float32)
    with pytest.raises(InputError, match="no features"):
        InMemoryDataset({}, one_segment(), GRID)
    with pytest.raises(InputError, match="shapes"):
        InMemoryDataset({"a": np.ones(4)}, one_segment(), GRID)
    with pytest.raises(InputError, match="channels"):
        InMemoryDataset({"a": array, "b": np.ones((4, 3))}, one_segment(), GRID)
    with pytest.raises(InputError, match="NaN"):
        InMemoryDataset({"a": array * np.nan}, one_segment(), GRID)
    with pytest.raises(InputError, match="'b' have no features"):
        InMemoryDataset({"a": array}, one_segment().assign(video_id=["b"]), GRID)
    with pytest.raises(InputError, match="no subset 'other'"):
        in_memory().videos("other")
    with pytest.raises(InputError, match="no class scores"):
        in_memory(video_scores=None).class_scores(["v0"])


def test_the_fingerprint_follows_annotations_split_and_grid():
    data = in_memory()
    assert data.fingerprint() == in_memory().fingerprint()
    assert data.fingerprint() != in_memory(videos=7).fingerprint()
    assert data.fingerprint() != in_memory(training_subset="train").fingerprint()


def one_segment():
    return pd.DataFrame({"video_id": ["a"], "start": [0.0], "end": [1.0], "label": ["kick"]})
