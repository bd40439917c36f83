"""Scored segments: from candidates to detections, and on disk.

``candidates.npz`` keeps a run's candidates before NMS, ``snippet_scores.npz`` its class scores per
snippet. Both are plain arrays without pickle, joined over videos:

    video_ids (V,)   lengths (V,)   label_names (K,)
    candidates        segments (N, 2) float32 seconds, scores (N,) float32, labels (N,) int32,
                      ends (V,) where detections are cut, absent in older files
                      class_labels (V, C), class_scores (V, C), score_fusion: what the videos' proposals
                      (label -1) become after NMS, absent where candidates have classes; -1 without any
    snippet scores    scores (sum of lengths, K) float16, stride (V,), offset (V,)
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.models.config import MethodConfig
from tal_core.models.method import Candidates, VideoClasses
from tal_core.postprocessing.fusion import NO_CLASS, PROPOSAL, class_table, fuse
from tal_core.postprocessing.nms import Suppression, suppress
from tal_core.types import InputError, TimeGrid
from tal_core.workspace import write_bytes


def suppression(config: MethodConfig) -> Suppression:
    """The NMS that a config asks for."""
    return Suppression(**{field.name: getattr(config, field.name) for field in fields(Suppression)})


@dataclass(frozen=True)
class JoinedCandidates:
    """Candidates of V videos as one set of arrays: ``number`` (N,), ascending, says whose a segment is.

    ``segments`` (N, 2) float32, ``scores`` (N,) float32, ``labels`` (N,) int64, ``ends`` (V,) as of each
    video's `Candidates`.
    """

    videos: list[str]
    number: np.ndarray
    segments: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    ends: np.ndarray
    classes: list[VideoClasses | None]


@dataclass(frozen=True)
class Thinned:
    """What post-processing leaves, by video, best score first; all arrays ``(M,)`` or ``(M, 2)``.

    ``row``: of the candidate; ``number``: of its video; ``times`` float64 seconds, cut at the video's end.
    """

    row: np.ndarray
    number: np.ndarray
    times: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def join(candidates: Mapping[str, Candidates]) -> JoinedCandidates:
    """The candidates of all videos one after the other."""
    found = list(candidates.values())
    return JoinedCandidates(
        videos=list(candidates),
        number=np.repeat(np.arange(len(found)), [len(one) for one in found]),
        segments=np.concatenate([one.segments for one in found] or [np.zeros((0, 2), np.float32)]),
        scores=np.concatenate([one.scores for one in found] or [np.zeros(0, np.float32)]),
        labels=np.concatenate([one.labels for one in found] or [np.zeros(0)]).astype(np.int64),
        ends=np.array([one.end for one in found], np.float64),
        classes=[one.classes for one in found],
    )


def thin(joined: JoinedCandidates, settings: Suppression) -> Thinned:
    """NMS over each video; then proposals get the classes of their video, if it has any."""
    kept = suppress(joined.segments, joined.scores, joined.labels, settings, joined.number)
    number = joined.number[kept.index]
    rows, labels, scores = fuse(number, joined.labels[kept.index], kept.scores, joined.classes)
    number = number[rows]
    times = kept.segments[rows].astype(np.float64).clip(0, joined.ends[number, None])
    return Thinned(kept.index[rows], number, times, labels, scores)


def detections_table(found: Thinned, videos: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """``DETECTION_COLUMNS``; the label of proposals without a class is ``proposal``."""
    names = np.array([*labels, PROPOSAL], dtype=object)  # class -1 is the last
    return pd.DataFrame(
        {
            "video_id": pd.Series(np.array(videos, dtype=object)[found.number], dtype="str"),
            "start": found.times[:, 0],
            "end": found.times[:, 1],
            "label": pd.Series(names[found.labels], dtype="str"),
            "score": found.scores.astype(np.float64),
        }
    )


def post_process_predictions(
    candidates: Mapping[str, Candidates], labels: Sequence[str], settings: Suppression
) -> pd.DataFrame:
    """Candidates of each video -> detections table: by video, best score first.

    Proposals get the classes of their video after NMS; without any they are labelled ``proposal``.
    """
    joined = join(candidates)
    return detections_table(thin(joined, settings), joined.videos, labels)


def save_candidates(path: Path, candidates: Mapping[str, Candidates], labels: Sequence[str]) -> None:
    """Write the candidates of all videos. Raises InputError if the place can't be written."""
    found = candidates.values()
    arrays = {
        "video_ids": np.array(list(candidates), dtype=np.str_),
        "lengths": np.array([len(one) for one in found], dtype=np.int64),
        "ends": np.array([one.end for one in found], dtype=np.float64),
        "segments": np.concatenate([one.segments for one in found] or [np.zeros((0, 2))]).astype(np.float32),
        "scores": np.concatenate([one.scores for one in found] or [np.zeros(0)]).astype(np.float32),
        "labels": np.concatenate([one.labels for one in found] or [np.zeros(0)]).astype(np.int32),
        "label_names": np.array(list(labels), dtype=np.str_),
    }
    _save(path, arrays | _class_arrays([one.classes for one in found]))


def _class_arrays(classes: Sequence[VideoClasses | None]) -> dict[str, np.ndarray]:
    """The classes of all videos as arrays; none if no video has any."""
    known = [one for one in classes if one is not None]
    if not known:
        return {}
    labels, scores = class_table(classes)
    return {"class_labels": labels, "class_scores": scores, "score_fusion": np.array(known[0].fusion)}


def _read_classes(arrays: Mapping[str, np.ndarray]) -> list[VideoClasses | None]:
    """What ``_class_arrays`` wrote, by video."""
    if "class_labels" not in arrays:
        return [None] * len(arrays["lengths"])
    found = []
    for labels, scores in zip(arrays["class_labels"], arrays["class_scores"], strict=True):
        known = labels != NO_CLASS
        fusion = str(arrays["score_fusion"])
        found.append(
            VideoClasses(labels[known].astype(np.int64), scores[known], fusion) if known.any() else None
        )
    return found


def load_candidates(path: Path) -> tuple[dict[str, Candidates], list[str]]:
    """Candidates by video, and the class names. Raises InputError if the file is missing or faulty."""
    needed = ("video_ids", "lengths", "segments", "scores", "labels", "label_names")
    arrays = _load(path, needed, ("ends", "class_labels", "class_scores", "score_fusion"))
    _check_shapes(path, arrays)
    stops = arrays["lengths"].cumsum()
    ends = arrays.get("ends", np.full(len(stops), np.inf))
    candidates = {}
    by_video = zip(arrays["video_ids"], stops, arrays["lengths"], ends, _read_classes(arrays), strict=True)
    for video, stop, length, end, classes in by_video:
        part = slice(stop - length, stop)
        labels = arrays["labels"][part].astype(np.int64)
        found = Candidates(arrays["segments"][part], arrays["scores"][part], labels, float(end), classes)
        candidates[str(video)] = found
    return candidates, [str(name) for name in arrays["label_names"]]


def _check_shapes(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise InputError unless the arrays belong together."""
    videos, total = len(arrays["video_ids"]), len(arrays["scores"])
    labels, classes = arrays["labels"], arrays.get("class_labels", np.zeros((videos, 0), np.int32))
    lengths = arrays["lengths"]
    together = (
        all(arrays[name].ndim == 1 for name in ("video_ids", "lengths", "scores", "labels", "label_names"))
        and all(arrays[name].dtype.kind in "iuf" for name in ("lengths", "segments", "scores", "labels"))
        and arrays.get("class_scores", classes).shape == classes.shape
        and len(lengths) == len(arrays.get("ends", lengths)) == len(classes) == videos
        and arrays["segments"].shape == (total, 2)
        and (lengths >= 0).all()
        and lengths.sum() == len(labels) == total
    )
    known = [one for one in (labels, classes) if one.size] if together else []
    most = len(arrays["label_names"])
    if not together or any(one.min() < NO_CLASS or one.max() >= most for one in known):
        raise _faulty(path, ValueError("its arrays don't fit each other"))


def save_snippet_scores(
    path: Path, scores: Mapping[str, tuple[np.ndarray, TimeGrid]], labels: Sequence[str]
) -> None:
    """Write ``(T, K)`` class scores with their time grids. Raises InputError if that fails."""
    tables = [table for table, _ in scores.values()] or [np.zeros((0, len(labels)))]
    arrays = {
        "video_ids": np.array(list(scores), dtype=np.str_),
        "lengths": np.array([len(table) for table, _ in scores.values()], dtype=np.int64),
        "scores": np.ascontiguousarray(np.concatenate(tables), dtype=np.float16),
        "stride": np.array([grid.stride for _, grid in scores.values()], dtype=np.float64),
        "offset": np.array([grid.offset for _, grid in scores.values()], dtype=np.float64),
        "label_names": np.array(list(labels), dtype=np.str_),
    }
    _save(path, arrays)


def load_snippet_scores(path: Path, video_id: str) -> tuple[np.ndarray, TimeGrid, list[str]]:
    """One video's ``(T, K)`` scores (float32), time grid and class names; reads that video's part only.

    Raises:
        InputError: if the file is missing or faulty, or doesn't hold the video.
    """
    arrays = _load(path, ("video_ids", "lengths", "stride", "offset", "label_names"))
    place = np.flatnonzero(arrays["video_ids"] == video_id)
    if len(place) == 0:
        hint = "Choose a video of the subset that the run was evaluated on."
        raise InputError(f"has no scores of video {video_id!r}", where=path, hint=hint)
    index = int(place[0])
    start = int(arrays["lengths"][:index].sum())
    labels = [str(name) for name in arrays["label_names"]]
    scores = _read_rows(path, "scores", start, int(arrays["lengths"][index]), len(labels))
    return scores, TimeGrid(float(arrays["stride"][index]), float(arrays["offset"][index])), labels


def load_all_snippet_scores(path: Path) -> tuple[dict[str, tuple[np.ndarray, TimeGrid]], list[str]]:
    """``(T, K)`` scores (float16) and time grid of every video, and the class names.

    Raises:
        InputError: if the file is missing or faulty.
    """
    arrays = _load(path, ("video_ids", "lengths", "scores", "stride", "offset", "label_names"))
    if arrays["scores"].shape != (arrays["lengths"].sum(), len(arrays["label_names"])):
        raise _faulty(path, ValueError("its arrays don't fit each other"))
    tables = np.split(arrays["scores"], arrays["lengths"].cumsum()[:-1])
    grids = [TimeGrid(float(s), float(o)) for s, o in zip(arrays["stride"], arrays["offset"], strict=True)]
    names = [str(name) for name in arrays["label_names"]]
    by_video = zip(arrays["video_ids"], tables, grids, strict=True)
    return {str(video): (table, grid) for video, table, grid in by_video}, names


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def _load(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (*names, *(name for name in optional if name in file))}
    except FileNotFoundError:
        raise InputError(
            "there is no such file", where=path, hint="Let the run finish its detections."
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _faulty(path, error) from None


def _read_rows(path: Path, name: str, start: int, length: int, columns: int) -> np.ndarray:
    """Rows of a stored (uncompressed) float16 member, without reading the rest."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(member)
            if shape[1:] != (columns,) or dtype != np.float16:
                raise ValueError(f"{name} has shape {shape} and type {dtype}")
            if fortran:  # column by column, as runs were once written whose tables lay so
                table = np.frombuffer(member.read(), dtype).reshape(shape, order="F")
                return table[start : start + length].astype(np.float32)
            width = columns * dtype.itemsize
            member.seek(start * width, io.SEEK_CUR)
            content = member.read(length * width)
            return np.frombuffer(content, dtype).reshape(length, columns).astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _faulty(path, error) from None


def _faulty(path: Path, error: Exception) -> InputError:
    what = f"can't be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return InputError(what, where=path, hint="The file is truncated or of another kind; make it again.")
