"""The segments behind each number of a diagnosis, as tables that lead back to the videos.

Every function takes what identifies a bar or cell and returns `SEGMENT_COLUMNS`, the most telling first.
Segments are those at the diagnosis's first threshold.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.diagnosis.segment_errors import ClassConfusion
from tal_core.evaluation.outcomes import MISSED, OUTCOMES
from tal_core.segments import temporal_iou

SEGMENT_COLUMNS = (
    "video_id",
    "start",
    "end",
    "label",
    "score",
    "outcome",
    "tiou",
    "annotation",
    "annotation_start",
    "annotation_end",
)
"""``annotation...`` and ``tiou``: the annotation that a detection matches or overlaps most. For a missed
annotation ``score`` is NaN; for a found one ``score`` is that of the detection that found it."""
BACKGROUND = "background"


def of_kind(
    diagnosis: Diagnosis, kind: str, band: int | None = None, label: str | None = None
) -> pd.DataFrame:
    """Detections with one outcome among those that the profile counts, or in one band (from 0) of it; for
    ``missed`` the annotations. ``label`` restricts either to a class."""
    ranked = diagnosis.ranked
    if kind == MISSED:
        wanted = diagnosis.false_negatives.missed[0]
        return _annotations(diagnosis, wanted & (ranked.truth["label"] == label) if label else wanted)
    limit = diagnosis.false_positives.limit
    wanted = ranked.multiple < limit if band is None else ranked.multiple == band
    wanted = wanted & (ranked.outcome[0] == OUTCOMES.index(kind))
    return _detections(
        diagnosis, wanted & (ranked.class_of == ranked.labels.index(label)) if label else wanted
    )


def of_class(diagnosis: Diagnosis, label: str, kind: str, multiple: int) -> pd.DataFrame:
    """What a class's best ``multiple`` x G detections got wrong in one way, or left missed."""
    ranked, kept = diagnosis.ranked, diagnosis.best(multiple)
    if kind == MISSED:
        return _annotations(diagnosis, ~ranked.found(0, kept) & (ranked.truth["label"] == label).to_numpy())
    wanted = kept & (ranked.outcome[0] == OUTCOMES.index(kind))
    return _detections(diagnosis, wanted & (ranked.class_of == ranked.labels.index(label)))


def of_bucket(diagnosis: Diagnosis, name: str, bucket: int, label: str | None = None) -> pd.DataFrame:
    """A bucket's annotations, found or missed; the missed ones first. ``label`` restricts the class."""
    wanted = diagnosis.characteristics[name].bucket == bucket
    if label is not None:
        wanted = wanted & (diagnosis.ranked.truth["label"] == label).to_numpy()
    return _annotations(diagnosis, wanted)


def missed_in(diagnosis: Diagnosis, buckets: dict[str, int]) -> pd.DataFrame:
    """The missed annotations in all of these buckets."""
    wanted = diagnosis.false_negatives.missed[0].copy()
    for name, bucket in buckets.items():
        wanted &= diagnosis.characteristics[name].bucket == bucket
    return _annotations(diagnosis, wanted)


def of_offset(diagnosis: Diagnosis, side: str, low: float, high: float) -> pd.DataFrame:
    """True positives whose ``start`` or ``end`` lies from ``low`` up to below ``high`` s off; worst first."""
    ranked, offsets = diagnosis.ranked, diagnosis.boundaries
    inside = offsets[(offsets[side] >= low) & (offsets[side] < high)]
    table = _detections(diagnosis, np.isin(ranked.row, inside["detection"]) & ranked.hit[0])
    off = (table[side] - table[f"annotation_{side}"]).abs()
    return table.loc[off.sort_values(ascending=False, kind="stable").index]


def of_score(diagnosis: Diagnosis, low: float, high: float) -> pd.DataFrame:
    """Detections with a score above ``low`` up to ``high``, a bin of the calibration; wrong ones first."""
    ranked = diagnosis.ranked
    above = ranked.score > low
    if low == diagnosis.calibration.lowest:  # the first bin includes its lower edge
        above |= ranked.score == low
    table = _detections(diagnosis, above & (ranked.score <= high))
    return table.sort_values("outcome", key=lambda column: column == OUTCOMES[0], kind="stable")


def of_confusion(
    diagnosis: Diagnosis, confusion: ClassConfusion, multiple: int, annotated: str, detected: str
) -> pd.DataFrame:
    """A cell of the class confusion among the best ``multiple`` x G detections: classes, or ``BACKGROUND`` as
    ``annotated`` or ``MISSED`` as ``detected``."""
    ranked = diagnosis.ranked
    place = np.flatnonzero(diagnosis.best(multiple))
    if detected == MISSED:
        wanted = (confusion.detection_of < 0) & (ranked.truth["label"] == annotated).to_numpy()
        return _annotations(diagnosis, wanted, found=confusion.detection_of >= 0)
    detected_as = ranked.class_of[place] == ranked.labels.index(detected)
    if annotated == BACKGROUND:
        chosen = confusion.annotation_of < 0
    else:
        label = ranked.truth["label"].to_numpy()
        chosen = (confusion.annotation_of >= 0) & (label[confusion.annotation_of] == annotated)
    wanted = np.zeros(len(ranked.row), bool)
    wanted[place[detected_as & chosen]] = True
    return _detections(diagnosis, wanted)


def of_video(diagnosis: Diagnosis, video_id: str, multiple: int) -> pd.DataFrame:
    """Errors in a video: the wrong ones of the best ``multiple`` x G detections, and missed annotations."""
    ranked, kept = diagnosis.ranked, diagnosis.best(multiple)
    wrong = kept & ~ranked.hit[0]
    wrong &= (diagnosis.detections["video_id"].to_numpy() == video_id)[ranked.row]
    lost = ~ranked.found(0, kept) & (ranked.truth["video_id"] == video_id).to_numpy()
    tables = [_detections(diagnosis, wrong), _annotations(diagnosis, lost)]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _detections(diagnosis: Diagnosis, wanted: np.ndarray) -> pd.DataFrame:
    """Ranked detections ``wanted`` ``(N,)``, the best score first."""
    table = diagnosis.labelled[np.asarray(wanted)].sort_values("score", ascending=False, kind="stable")
    near = table["nearest"].to_numpy()
    truth = diagnosis.ranked.truth.reindex(near)  # rows of the table handed in are the index; -1 gives NaN
    overlap = np.zeros(len(table))
    known = near >= 0
    overlap[known] = temporal_iou(
        truth[["start", "end"]].to_numpy()[known], table[["start", "end"]].to_numpy()[known]
    )
    return table.assign(
        tiou=overlap,
        annotation=truth["label"].fillna("").to_numpy(),
        annotation_start=truth["start"].to_numpy(),
        annotation_end=truth["end"].to_numpy(),
    )[list(SEGMENT_COLUMNS)].reset_index(drop=True)


def _annotations(diagnosis: Diagnosis, wanted: np.ndarray, found: np.ndarray | None = None) -> pd.DataFrame:
    """Annotations ``wanted`` ``(G,)``: the missed ones first, then the found ones with the lowest score."""
    ranked = diagnosis.ranked
    wanted = np.asarray(wanted)
    found = ~diagnosis.false_negatives.missed[0] if found is None else found
    taker = np.full(len(ranked.truth), -1)
    hits = np.flatnonzero(ranked.hit[0])
    taker[ranked.matched[0][hits]] = hits
    score = (
        np.where(found & (taker >= 0), ranked.score[taker], np.nan)
        if len(hits)
        else np.full(len(taker), np.nan)
    )
    table = ranked.truth.assign(score=score, outcome=np.where(found, "found", MISSED))[wanted]
    table = table.assign(
        tiou=np.nan,
        annotation=table["label"],
        annotation_start=table["start"],
        annotation_end=table["end"],
    )
    table = table.sort_values("score", kind="stable", na_position="first")
    return table[list(SEGMENT_COLUMNS)].reset_index(drop=True)
