"""A finished run from a checkpoint that another program trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tal_core.data.dataset.dataset import Dataset, open_dataset
from tal_core.data.formats.files import read_json, read_text, suffix
from tal_core.device import choose_device, device_name
from tal_core.importing.checkpoints import Imported, class_order, complete, read_imported
from tal_core.models.registry import get_method
from tal_core.models.shared.weights import WeightsInfo, save_weights
from tal_core.runs.recorder import RunRecorder
from tal_core.runs.run import Run, create_run
from tal_core.training.checkpoint import Position
from tal_core.training.environment import describe
from tal_core.training.loop import check_class_scores, detect, usual_grid
from tal_core.training.steps import Training, new_state
from tal_core.types import InputError, Progress


def import_checkpoint(
    home: Path,
    source: str,
    weights: Path,
    dataset: str,
    *,
    config: Path | None = None,
    labels: Path | None = None,
    run_id: str | None = None,
    proposals: bool = False,
    progress: Progress | None = None,
) -> Run:
    """A run that holds the checkpoint, and what it detects in the dataset's evaluation subset.

    ``source`` is one of ``checkpoints.SOURCES``, ``config`` the settings that the checkpoint was trained
    with, ``labels`` a file of its classes in its order, one a line. Without it the order is that of the
    annotations' ``label_id``, or else alphabetical. The run keeps the classes in the dataset's order.

    Checkpoints of one class, and BMN's, make proposals, which get the classes of the dataset's video-level
    class scores; ``proposals`` keeps them without classes.

    Raises:
        InputError: if a file is faulty, or checkpoint, config, classes and dataset don't belong together, or
            class scores are missing. There is no run then.
    """
    imported = read_imported(source, weights, config)
    data = open_dataset(home, dataset, progress)
    imported = _of_one_class(imported, data)
    if imported.config.needs_class_scores and not proposals:
        _check_scores(imported, data)
    if data.num_features != imported.num_features:
        what = f"has features of {data.num_features} channels, the checkpoint needs {imported.num_features}"
        raise InputError(what, where=f"dataset {dataset}", hint="Use the features that it was trained on.")
    order = _order(imported, data, labels)
    method = get_method(imported.method)
    model = method.build(imported.config, data.num_features, len(data.labels))
    model.load_state_dict(complete(imported, model.state_dict(), order, weights))

    run = create_run(home, dataset, imported.method, imported.config, run_id)
    with run.removed_on_failure():
        info = WeightsInfo(
            imported.method,
            data.labels,
            data.num_features,
            imported.epoch,
            usual_grid(data),
            data.entry.extractor,
        )
        save_weights(run.weights_file("last"), model.state_dict(), info)
        words = f"Imported {weights.name} of {source}"
        _detect(run, imported, data, model, words, progress, classless=proposals)
    return run


def _of_one_class(imported: Imported, data: Dataset) -> Imported:
    """A network of one class for a dataset of one class detects that class; for others, it proposes."""
    if imported.num_classes != 1 or len(data.labels) > 1:
        return imported
    return replace(imported, config=imported.config.model_copy(update={"classes": "all"}))


def _check_scores(imported: Imported, data: Dataset) -> None:
    """Raise InputError unless the dataset says of every evaluated video which classes it shows."""
    if data.entry.class_scores is None:
        what = f"has no video-level class scores, and this {imported.method} makes proposals without classes"
        hint = (
            "Add them (datasets add ... --class-scores FILE --replace), or keep proposals with --proposals."
        )
        raise InputError(what, where=f"dataset {data.name}", hint=hint)
    check_class_scores(imported.config, data)


def _order(imported: Imported, data: Dataset, labels: Path | None) -> list[int] | None:
    """Where the checkpoint keeps each class of the dataset; None for proposals without classes."""
    if imported.config.needs_class_scores:
        return None
    assert imported.num_classes is not None  # it has classes
    where: object = labels or f"dataset {data.name}"
    stated = read_labels(labels) if labels else label_ids(data.entry.annotations) or data.labels
    return class_order(imported.num_classes, data.labels, stated, where)


def _detect(
    run: Run,
    imported: Imported,
    data: Dataset,
    model: torch.nn.Module,
    words: str,
    progress: Progress | None,
    *,
    classless: bool,
) -> None:
    """Write candidates, detections and evaluation."""
    config = imported.config
    device = choose_device(config.device)
    state = new_state(model, config, device, torch.float32)
    state.average = None
    state.position = Position(epoch=config.epochs)
    with RunRecorder(run) as recorder:
        recorder.device = device
        recorder.update(
            device=device_name(device), precision="float32", epoch=config.epochs, epochs=config.epochs
        )
        recorder.log(f"{words}, trained for {imported.epoch or 'an unknown number of'} epochs there")
        environment = describe(device, torch.float32, data)
        run.write_json(run.environment_file, environment)
        training = Training(
            run=run,
            method=get_method(imported.method),
            config=config,
            dataset=data,
            device=device,
            precision=torch.float32,
            recorder=recorder,
            progress=progress or (lambda *_: None),
        )
        detect(training, state, classless=classless)


def read_labels(path: Path) -> list[str]:
    """Class names from a text file, one a line. Raises InputError if one stands there twice or none."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"names {repeated!r} twice", where=path, hint="Name every class once.")
    return names


def label_ids(annotations: Path) -> Sequence[str] | None:
    """Class names by the ``label_id`` of an annotation JSON, as the authors' programs number them.

    None if the file is of another kind, or an annotation has none or two classes share one.
    """
    if not annotations.is_file() or suffix(annotations) != ".json":
        return None
    content = read_json(annotations)
    videos = content.get("database", content) if isinstance(content, dict) else {}
    numbers: dict[str, int] = {}
    for video in videos.values() if isinstance(videos, dict) else ():
        for row in (video.get("annotations") or []) if isinstance(video, dict) else ():
            if not isinstance(row, dict) or not isinstance(row.get("label_id"), int):
                return None
            if numbers.setdefault(str(row.get("label")), row["label_id"]) != row["label_id"]:
                return None
    if not numbers or len(set(numbers.values())) < len(numbers):
        return None
    return sorted(numbers, key=numbers.__getitem__)
