"""A dataset from a folder of videos and a label file: looked at first, then extracted, then registered.

    plan = Plan(name="kitchen", videos=..., annotations=..., spec=ExtractorSpec())
    preview = look(home, plan)        # what will be in it and what is odd; nothing is written
    job = start(home, plan)           # in the background; make(home, plan) does it in the foreground

Features go to ``<home>/features/<name>``, the videos' lengths to ``<home>/datasets/<name>.videos.csv``. Where
all labelled videos are there, the label file itself is the dataset's; else a copy without the others is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from tal_core.data.dataset.entry import DatasetEntry, LabelledVideos, entry_path, load_entry
from tal_core.data.dataset.registry import add_dataset, free_path
from tal_core.data.dataset.subsets import choose_subsets
from tal_core.data.formats.annotations import only_videos, read_annotations, write_annotations
from tal_core.data.formats.video_ids import find_name
from tal_core.data.formats.video_info import read_video_info
from tal_core.types import FINDING_COLUMNS, Annotations, InputError, Progress, finding
from tal_core.video.extraction import jobs
from tal_core.video.extraction.folder import Outcome, Step, extract_folder, find_videos, read_manifest
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.video.frames import duration_of, probe
from tal_core.workspace import check_name, write_text

FEATURES = "features"
_TOLERANCE = 1.0  # seconds by which a label file's duration may differ from the video's


class Plan(LabelledVideos):
    """What a dataset is to be made of. ``labelling_fps``: of label files that count frames (Label Studio)."""

    videos: Path
    spec: ExtractorSpec = Field(default_factory=ExtractorSpec)
    labelling_fps: float | None = Field(None, gt=0)

    @field_validator("videos", "annotations", "video_info")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().resolve() if path is not None else None


@dataclass(frozen=True)
class Preview:
    """What a plan will give. ``table``: a row per video and per labelled video without file: ``video``,
    ``file``, ``duration`` (seconds), ``segments``, ``note``. ``findings``: ``FINDING_COLUMNS``."""

    annotations: Annotations
    table: pd.DataFrame
    findings: pd.DataFrame

    @property
    def matched(self) -> int:
        """Videos that are there and labelled."""
        return int(((self.table["file"] != "") & (self.table["segments"] > 0)).sum())

    @property
    def seconds(self) -> float:
        """Of all videos that are there."""
        return float(self.table.loc[self.table["file"] != "", "duration"].sum())


def features_folder(home: Path, name: str) -> Path:
    """Where the features of a dataset made of videos go."""
    return home / FEATURES / check_name(name, "dataset")


def look(plan: Plan, progress: Progress | None = None) -> Preview:
    """Match videos and labels, and say what is odd. Reads the videos' headers only.

    Raises:
        InputError: if folder or label file can't be used, no video is labelled, or the videos can't be
            divided into training and evaluation as asked for.
    """
    files: dict[str, Path] = {}
    for path in find_videos(plan.videos):
        files.setdefault(path.stem, path)
    lengths, broken = _lengths(files, progress)
    first = read_annotations(plan.annotations, _info(plan, {}, []), plan.tiers)
    ids = first.videos["video_id"].tolist()
    found = {video: name for video in ids if (name := find_name(video, files))}
    if not found:
        what = f"not one of its {len(ids)} videos is in the folder"
        examples = f" (the labels have {ids[0]!r}, the folder {next(iter(files))!r})"
        hint = "Name the videos in the label file like the video files."
        raise InputError(what + examples, where=plan.annotations, hint=hint)
    stated = first.videos.set_index("video_id")["duration"]
    info = _info(plan, {video: lengths[name] for video, name in found.items()}, ids)
    annotations = read_annotations(plan.annotations, info, plan.tiers)
    _check_subsets(plan, annotations)
    table = _table(annotations, files, found, lengths, broken)
    notes = _findings(table, found, stated, lengths)
    findings = pd.concat(
        [pd.DataFrame(notes, columns=list(FINDING_COLUMNS), dtype="str"), annotations.findings],
        ignore_index=True,
    )
    return Preview(annotations, table, findings)


def start(home: Path, plan: Plan, *, device: str = "auto") -> jobs.ExtractionJob:
    """Extract in the background, and register the dataset at the end.

    Raises:
        InputError: as ``look`` and ``jobs.start``, or if the name is taken or about to be.
    """
    free_path(home, plan.name)
    look(plan)
    out = features_folder(home, plan.name)
    return jobs.start(home, plan.videos, out, plan.spec, device=device, dataset=plan.model_dump(mode="json"))


def make(
    home: Path,
    plan: Plan,
    *,
    device: str = "auto",
    processes: int | None = None,
    progress: Callable[[Step], None] | None = None,
) -> tuple[Outcome, DatasetEntry]:
    """The same in the foreground: what the extraction did, and the dataset. Raises as ``start``."""
    free_path(home, plan.name)
    outcome = extract_folder(
        plan.videos,
        features_folder(home, plan.name),
        plan.spec,
        device=device,
        processes=processes,
        progress=progress,
    )
    return outcome, register(home, plan)


def register_once(home: Path, plan: dict[str, Any]) -> None:
    """``register``, unless an earlier run of the same job has done so already."""
    name = plan["name"]
    if entry_path(home, name).exists() and load_entry(home, name).features == [features_folder(home, name)]:
        return
    register(home, Plan.model_validate(plan))


def register(home: Path, plan: Plan) -> DatasetEntry:
    """Register a dataset whose features are extracted. Raises InputError as ``add_dataset``."""
    free_path(home, plan.name)
    out = features_folder(home, plan.name)
    manifest = read_manifest(out)
    if manifest is None or not any(video.state == "done" for video in manifest.videos.values()):
        raise InputError("no video could be used", where=plan.videos, hint="See what is wrong with each.")
    done = {
        Path(name).stem: video.seconds for name, video in manifest.videos.items() if video.state == "done"
    }
    ids = read_annotations(plan.annotations, _info(plan, {}, []), plan.tiers).videos["video_id"].tolist()
    known = {video: done[name] for video in ids if (name := find_name(video, done))}
    info = _info(plan, known, ids)
    own = {name: home / "datasets" / f"{plan.name}.{name}" for name in ("videos.csv", "annotations.json")}
    try:
        if len(known) == len(ids):
            write_text(own["videos.csv"], info.to_csv())
            labels: dict[str, Any] = {
                "annotations": plan.annotations,
                "video_info": own["videos.csv"],
                "tiers": plan.tiers,
            }
        else:
            whole = read_annotations(plan.annotations, info, plan.tiers)
            write_annotations(only_videos(whole, known), own["annotations.json"])
            labels = {"annotations": own["annotations.json"]}
        taken = {"videos", "training_subset", "evaluation_subset", "tiou", "split"}
        fields = {**labels, **plan.model_dump(include=taken)}
        return add_dataset(
            home,
            plan.name,
            features=out,
            **fields,
            layout="TD",
            snippet_seconds=manifest.grid.stride,
            offset_seconds=manifest.grid.offset,
            description=f"{len(known)} videos, features of the extractor {plan.spec.name}",
        )
    except InputError:
        for path in own.values():
            path.unlink(missing_ok=True)
        raise


def _lengths(files: dict[str, Path], progress: Progress | None) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each video (NaN where unknown), and why those without can't be read."""
    lengths: dict[str, float] = {}
    broken: dict[str, str] = {}
    for done, (name, path) in enumerate(files.items()):
        if progress is not None:
            progress(done, len(files), "reading the videos' headers")
        seconds = duration_of(path)
        if seconds <= 0:  # silent or broken: a closer look tells which
            try:
                seconds = probe(path).duration
                broken |= {} if seconds > 0 else {name: "holds no picture that lasts"}
            except InputError as error:
                broken[name] = error.what
        lengths[name] = seconds if seconds > 0 else np.nan
    return lengths, broken


def _info(plan: Plan, lengths: dict[str, float], ids: list[str]) -> pd.DataFrame:
    """What is known of the videos beside the labels: ``video_info``, real lengths, the labelling's fps."""
    info = read_video_info(plan.video_info) if plan.video_info else pd.DataFrame()
    info = info.reindex(info.index.union(pd.Index(ids, dtype="str"), sort=False))
    info.index.name = "video_id"
    measured = pd.Series(lengths, dtype="float64").reindex(info.index)
    info["duration"] = info["duration"].fillna(measured) if "duration" in info else measured
    if plan.labelling_fps is not None:
        info["fps"] = plan.labelling_fps
    if "subset" in info:
        info["subset"] = info["subset"].fillna("")
    return info


def _check_subsets(plan: Plan, annotations: Annotations) -> None:
    draft = DatasetEntry(
        name=plan.name or "new",
        annotations=plan.annotations,
        features=[plan.videos],
        training_subset=plan.training_subset,
        evaluation_subset=plan.evaluation_subset,
        split=plan.split,
    )
    choose_subsets(draft, annotations.videos, annotations.ground_truth)


def _table(
    annotations: Annotations,
    files: dict[str, Path],
    found: dict[str, str],
    lengths: dict[str, float],
    broken: dict[str, str],
) -> pd.DataFrame:
    counts = annotations.ground_truth["video_id"].value_counts()
    by_file = {name: video for video, name in found.items()}
    rows = []
    for name, path in files.items():
        video = by_file.get(name, name)
        segments = int(counts.get(video, 0)) if name in by_file else 0
        note = broken.get(name, "") or ("" if segments else "no labels")
        rows.append((video, path.name, lengths[name], segments, note))
    for video in annotations.videos["video_id"]:
        if video not in found:
            rows.append((video, "", np.nan, int(counts.get(video, 0)), "no video file"))
    return pd.DataFrame(rows, columns=["video", "file", "duration", "segments", "note"])


def _findings(
    table: pd.DataFrame, found: dict[str, str], stated: pd.Series, lengths: dict[str, float]
) -> list[dict[str, Any]]:
    """What is odd between the folder and the labels."""
    notes = []

    def add(rows: pd.DataFrame, level: str, kind: str, what: str, advice: str) -> None:
        if len(rows):
            some = ", ".join(rows["video"].head(3)) + (", …" if len(rows) > 3 else "")
            notes.append(finding(level, kind, f"{what}: {len(rows)} ({some})", advice=advice))

    there = table["file"] != ""
    unreadable = there & ~table["note"].isin(("", "no labels"))
    add(
        table[unreadable],
        "error",
        "unreadable",
        "videos that can't be used",
        "Convert or copy them again; else they are left out.",
    )
    add(table[~there], "warning", "unknown videos", "labelled videos that are not in the folder",
        "They are left out: the dataset gets a copy of the labels without them.")  # fmt: skip
    add(table[there & (table["note"] == "no labels")], "info", "without labels", "videos without labels",
        "Their features are extracted, but they are no part of the dataset.")  # fmt: skip
    for video, name in found.items():
        gap = stated.get(video, np.nan) - lengths[name]
        if abs(gap) > _TOLERANCE + 0.02 * lengths[name]:
            detail = f"lasts {lengths[name]:.1f} s, but the labels say {stated[video]:.1f} s"
            advice = "Is it the same cut of the video? Then correct the duration."
            notes.append(finding("warning", "duration", detail, video_id=video, advice=advice))
    twice = len(found) - len(set(found.values()))
    if twice:
        notes.append(finding("warning", "names", f"{twice} videos of the labels have the same file"))
    return notes
