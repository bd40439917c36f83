"""Checkpoints of OpenTAD compute what OpenTAD computes, as runs and cell by cell."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from tal_core.data.dataset.registry import add_dataset
from tal_core.importing.checkpoints import complete, read_imported
from tal_core.importing.run_of_checkpoint import import_checkpoint
from tal_core.inference.predict import load_model
from tal_core.models.pyramid.config import resized
from tal_core.models.registry import get_method
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "opentad"
CASE = np.load(GOLDEN / "case.npz")
CONFIGS = json.loads((GOLDEN / "configs.json").read_text())
SCORES = json.loads((GOLDEN / "class_scores.json").read_text())
CLASSES = SCORES["class"]  # in no alphabetical order
FPS, STRIDE, OFFSET = 15.0, 16, 8


@pytest.fixture(params=CONFIGS)
def name(request):
    return request.param


def source_of(name):
    return f"opentad-{name.split('_')[0]}"


def videos_of(name):
    return [k for k in range(4) if f"{name}_video{k}_scores" in CASE]


def write_checkpoint(name, folder, **changes):
    """As OpenTAD writes it: the averaged weights under ``module.``, and the config as Python."""
    state = safetensors.torch.load_file(GOLDEN / f"{name}.safetensors")
    averaged = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict_ema": averaged}, folder / "best.pth")
    content = CONFIGS[name] | changes
    (folder / "c.py").write_text("\n".join(f"{key} = {value!r}" for key, value in content.items()))
    return folder / "best.pth", folder / "c.py"


def make_dataset(home, folder, *, stretched=False, scores=True):
    """The golden's videos with an action of each class, for evaluation, and two that train."""
    (folder / "features").mkdir()
    database = {}
    for k in range(4):
        features = CASE[f"video{k}_feats"].T
        rows = [
            {"segment": [3 * n + 1, 3 * n + 5], "label": label, "label_id": n}
            for n, label in enumerate(CLASSES)
        ]
        for subset in ("test", "training"):
            video = f"v{k}" if subset == "test" else f"t{k}"
            database[video] = {
                "subset": subset,
                "duration": float(CASE["durations"][k]),
                "annotations": rows,
            }
            np.save(folder / "features" / f"{video}.npy", features)
    (folder / "a.json").write_text(json.dumps({"database": database}))
    timing = {"timing": "stretched"} if stretched else {"stride": STRIDE, "fps": FPS}
    offset = {} if stretched else {"offset_seconds": OFFSET / FPS}
    add_dataset(
        home,
        "golden",
        annotations=folder / "a.json",
        features=[folder / "features"],
        training_subset="training",
        evaluation_subset="test",
        class_scores=GOLDEN / "class_scores.json" if scores else None,
        **timing,
        **offset,
    )


def test_a_run_detects_what_opentad_detects(home, tmp_path, name):
    make_dataset(home, tmp_path, stretched="resize_length" in CONFIGS[name]["dataset"]["test"])
    weights, config = write_checkpoint(name, tmp_path)
    run = import_checkpoint(home, source_of(name), weights, "golden", config=config)
    assert run.evaluation() is not None
    table = run.detections()
    for k in videos_of(name):
        found = table[table["video_id"] == f"v{k}"]
        scores, segments, labels = (
            CASE[f"{name}_video{k}_{part}"] for part in ("scores", "segments", "labels")
        )
        order = np.argsort(-scores, kind="stable")
        np.testing.assert_allclose(found["score"], scores[order], atol=1e-5)
        # Seconds up to 150 in float32, and written with three decimals.
        np.testing.assert_allclose(found[["start", "end"]], segments[order], atol=1e-3)
        assert found["label"].tolist() == [CLASSES[n] for n in labels[order]]


def network(name, folder, **settings):
    """The imported network with other settings, and its config."""
    imported = read_imported(source_of(name), *write_checkpoint(name, folder))
    config = imported.config.model_copy(update=settings)
    model = get_method(imported.method).build(config, 12, len(CLASSES)).eval()
    model.load_state_dict(complete(imported, model.state_dict(), None, folder))
    return model, config


def seen_by(config, k):
    features = torch.from_numpy(CASE[f"video{k}_feats"].T.copy())
    return resized(features, TimeGrid(1.0), config)[0]


def differences(model, config, name, k):
    """The largest difference of logits, and of the segments of the best cells in snippets."""
    with torch.no_grad():
        found, logits = model.decode(seen_by(config, k))
    expected = [CASE[f"{name}_video{k}_logits_L{level}"] for level in range(config.levels)]
    of_logits = max(np.abs(a.numpy() - b).max() for a, b in zip(logits, expected, strict=True))
    proposals = CASE[f"{name}_video{k}_proposals"]
    every = proposals if proposals.ndim == 3 else proposals[:, None]
    first, of_segments = 0, 0.0
    for level, part in enumerate(found):
        scores = 1 / (1 + np.exp(-expected[level]))
        cells, classes = np.nonzero(scores > 0.05)
        order = np.argsort(-scores[cells, classes], kind="stable")
        theirs = every[first + cells, np.minimum(classes, every.shape[1] - 1)][order]
        both = min(len(theirs), len(part.segments))  # a level may hold more than are kept
        apart = np.abs(part.segments.numpy()[:both] - theirs[:both])
        of_segments = max(of_segments, apart.max(initial=0))
        first += len(scores)
    return of_logits, of_segments


def test_every_cell_is_equal(tmp_path, name):
    model, config = network(name, tmp_path)
    for k in videos_of(name):
        if config.resize:
            resized_features = CASE[f"{name}_video{k}_resized"].T
            np.testing.assert_allclose(seen_by(config, k), resized_features, atol=2e-5)
        of_logits, of_segments = differences(model, config, name, k)
        assert of_logits < 1e-4 and of_segments < 1e-4


@pytest.mark.parametrize("name", ["actionformer", "tridet"])
def test_the_authors_program_computes_something_else(tmp_path, name):
    """So the data can tell: video 0 is padded, and norms have another epsilon everywhere."""
    model, config = network(name, tmp_path, program="authors")
    of_logits, of_segments = differences(model, config, name, 0)
    assert of_logits > 1e-2 and of_segments > 1e-2


def test_what_is_read_from_a_config(tmp_path):
    config = read_imported("opentad-tridet", *write_checkpoint("tridet_agnostic", tmp_path)).config
    assert config.program == "opentad" and config.needs_class_scores
    assert (config.score_fusion, config.classes_per_proposal) == ("root", 2)
    assert (config.min_candidate_score, config.max_candidates) == (0, 100_000)
    config = read_imported("opentad-actionformer", *write_checkpoint("actionformer", tmp_path)).config
    assert (config.classes, config.max_candidates, config.input_dropout) == ("all", 150, 0.2)
    assert config.voting_weights == "score" and config.resize is None
    # Without a config: what is published for THUMOS14.
    config = read_imported("opentad-actionformer", tmp_path / "best.pth").config
    assert (config.program, config.max_detections, config.min_score) == ("opentad", 2000, 0.001)


def test_sliding_windows_are_refused_with_a_way_out(tmp_path):
    paths = write_checkpoint("actionformer", tmp_path, dataset={"test": {"window_size": 64}})
    with pytest.raises(InputError, match=r"sliding windows \(window_size=64\).*Remove window_size"):
        read_imported("opentad-actionformer", *paths)


def test_proposals_need_class_scores_or_stay_proposals(home, tmp_path):
    make_dataset(home, tmp_path, scores=False)
    weights, config = write_checkpoint("tridet_agnostic", tmp_path)
    with pytest.raises(
        InputError, match=r"no video-level class scores.*--class-scores.*--proposals"
    ) as raised:
        import_checkpoint(home, "opentad-tridet", weights, "golden", config=config, run_id="r")
    assert "\n" not in str(raised.value) and not (home / "runs" / "r").exists()
    run = import_checkpoint(
        home, "opentad-tridet", weights, "golden", config=config, run_id="r", proposals=True
    )
    assert run.evaluation() is None and set(run.detections()["label"]) == {"proposal"}
    assert load_model(run).config.classes == "agnostic"
