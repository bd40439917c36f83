"""The tables behind the bars: what they hold must be what the bar counts."""

import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.diagnosis import advice, segments_behind
from tal_core.evaluation.diagnosis.buckets import bucket_sizes
from tal_core.evaluation.diagnosis.diagnose import diagnose
from tal_core.evaluation.diagnosis.segment_errors import class_confusion, errors_per_class, video_errors
from tal_core.evaluation.outcomes import MISSED, OUTCOMES
from tests.evaluation.golden_tables import detection_table, ground_truth_table, load


@pytest.fixture(scope="module")
def diagnosis():
    content = load("map_thumos/ground_truth.json.gz")
    truth, videos = ground_truth_table(content, "test")
    durations = pd.Series({video: content["database"][video]["duration"] for video in videos})
    detections = detection_table(load("map_thumos/predictions.json.gz"))
    # an index of its own: rows are positions, whatever the index says
    detections.index += 7
    return diagnose(truth, detections, [0.5], durations=durations)


@pytest.mark.parametrize("kind", OUTCOMES)
def test_a_bar_of_the_profile_leads_to_as_many_segments(diagnosis, kind):
    counts = diagnosis.false_positives.counts[:, 0, OUTCOMES.index(kind)]
    for band in (0, 3, 9):
        table = segments_behind.of_kind(diagnosis, kind, band)
        assert len(table) == counts[band]
        assert table["outcome"].isin([kind]).all()
        assert table["score"].is_monotonic_decreasing
    assert len(segments_behind.of_kind(diagnosis, kind)) == counts.sum()


def test_segments_name_their_annotation(diagnosis):
    wrong = segments_behind.of_kind(diagnosis, "wrong label")
    assert (wrong["label"] != wrong["annotation"]).all()
    assert (wrong["tiou"] >= 0.5).all()
    loose = segments_behind.of_kind(diagnosis, "localization error")
    assert (loose["label"] == loose["annotation"]).all()
    assert loose["tiou"].between(0.1, 0.5, inclusive="left").all()
    nothing = segments_behind.of_kind(diagnosis, "background error")
    assert (nothing["annotation"] == "").all() and nothing["annotation_start"].isna().all()


def test_a_bucket_leads_to_its_annotations(diagnosis):
    for name, kind in diagnosis.characteristics.items():
        for bucket, size in enumerate(bucket_sizes(kind)):
            table = segments_behind.of_bucket(diagnosis, name, bucket)
            missed = segments_behind.missed_in(diagnosis, {name: bucket})
            assert len(table) == size
            assert len(missed) == round(diagnosis.false_negatives.rates(name)[bucket] * size)
            assert (table["outcome"].head(len(missed)) == MISSED).all()
    length = segments_behind.of_bucket(diagnosis, "length", 4, "Diving")
    assert (length["end"] - length["start"] > 18).all() and (length["label"] == "Diving").all()


def test_a_pair_of_buckets_leads_to_what_is_missed_in_both(diagnosis):
    rates = diagnosis.false_negatives.pair_rates("coverage", "length")
    sizes = diagnosis.false_negatives.pair_sizes("coverage", "length")
    for row, column in ((0, 0), (1, 2)):
        table = segments_behind.missed_in(diagnosis, {"coverage": row, "length": column})
        assert len(table) == round(rates[row, column] * sizes[row, column]) > 0


def test_missed_annotations_of_a_class(diagnosis):
    everything = segments_behind.of_kind(diagnosis, MISSED)
    assert len(everything) == 691 and everything["score"].isna().all()
    assert (
        len(segments_behind.of_kind(diagnosis, MISSED, label="Diving"))
        == (everything["label"] == "Diving").sum()
        > 0
    )


def test_found_annotations_have_the_score_that_found_them(diagnosis):
    table = segments_behind.of_bucket(diagnosis, "length", 0)
    found = table[table["outcome"] == "found"]
    hits = diagnosis.labelled[diagnosis.labelled["outcome"] == OUTCOMES[0]].set_index("matched")
    truth = diagnosis.ranked.truth.reset_index().merge(found, on=["video_id", "start", "end", "label"])
    assert len(truth) >= len(found)
    assert np.isclose(hits.loc[truth["index"], "score"].to_numpy(), truth["score"]).mean() > 0.99


def test_a_bar_of_offsets_leads_to_its_segments(diagnosis):
    table = segments_behind.of_offset(diagnosis, "end", 0.5, 1.0)
    off = table["end"] - table["annotation_end"]
    assert off.between(0.5, 1.0, inclusive="left").all()
    assert len(table) == diagnosis.boundaries["end"].between(0.5, 1.0, inclusive="left").sum() > 0
    assert off.is_monotonic_decreasing


def test_bins_of_scores_hold_every_detection_once(diagnosis):
    bins = [
        segments_behind.of_score(diagnosis, row.low, row.high)
        for row in diagnosis.calibration.table.itertuples()
    ]
    assert [len(table) for table in bins] == diagnosis.calibration.table["count"].tolist()
    assert sum(map(len, bins)) == len(diagnosis.ranked.row)
    right = bins[-1]["outcome"] == OUTCOMES[0]
    assert right.is_monotonic_increasing, "the wrong ones come first"


def test_cells_of_the_confusion_lead_to_their_segments(diagnosis):
    confusion = class_confusion(diagnosis.ranked, diagnosis.detections, diagnosis.best(2))
    rows, columns = [*confusion.labels, segments_behind.BACKGROUND], [*confusion.labels, MISSED]
    for i, j in ((0, 0), (4, 7), (20, 3), (3, 20), (7, 7)):
        table = segments_behind.of_confusion(diagnosis, confusion, 2, rows[i], columns[j])
        assert len(table) == confusion.counts[i, j], (rows[i], columns[j])
    assert confusion.counts[:-1].sum() == len(diagnosis.ranked.truth)


def test_counts_per_class_and_video_lead_to_their_segments(diagnosis):
    classes = errors_per_class(diagnosis.ranked, diagnosis.best())
    worst = classes.iloc[0]
    for kind in (*OUTCOMES[1:], MISSED):
        assert len(segments_behind.of_class(diagnosis, worst["label"], kind, 1)) == worst[kind]
    videos = video_errors(diagnosis.ranked, diagnosis.detections, diagnosis.best())
    row = videos.iloc[0]
    assert len(segments_behind.of_video(diagnosis, row["video_id"], 1)) == row["errors"]


def test_words_name_what_matters(diagnosis):
    assert "Fixing this error would gain most: **missed** (+13.9 mAP)" in advice.headline(diagnosis)
    assert "**double detection** (22.5 %)" in advice.profile_words(diagnosis)
    assert "**num-instances M** (41 to 80) with 37.4 %" in advice.sensitivity_words(diagnosis)
    assert "20.6 % of all annotations" in advice.missed_words(diagnosis)
    assert "scatter, not a shift" in advice.boundary_words(diagnosis)
    assert "promise too much" in advice.calibration_words(diagnosis.calibration)
    confusion = class_confusion(diagnosis.ranked, diagnosis.detections, diagnosis.best())
    assert "taken for" in advice.confusion_words(confusion)


def test_words_of_a_shifted_time_grid_point_at_it():
    truth = pd.DataFrame(
        {"video_id": "v", "start": np.arange(30.0) * 20, "end": np.arange(30.0) * 20 + 10, "label": "a"}
    )
    late = truth.assign(start=truth["start"] + 1.0, end=truth["end"] + 1.0, score=0.9)
    words = advice.boundary_words(diagnose(truth, late))
    assert "starts are 1.00 s late" in words and "offset_seconds" in words
    wide = truth.assign(start=truth["start"] - 1.0, end=truth["end"] + 1.0, score=0.9)
    assert "too long or too short" in advice.boundary_words(diagnose(truth, wide))
    slow = truth.assign(end=truth["end"] + 1.0, score=0.9)
    assert "Only the ends are off" in advice.boundary_words(diagnose(truth, slow))


def test_words_of_a_perfect_and_of_an_empty_run():
    truth = pd.DataFrame(
        {"video_id": ["v", "w"], "start": [0.0, 5.0], "end": [2.0, 9.0], "label": ["a", "b"]}
    )
    perfect = diagnose(truth, truth.assign(score=1.0))
    assert "Nothing would be gained" in advice.headline(perfect)
    assert "Every annotation is found" in advice.missed_words(perfect)
    assert "is right" in advice.profile_words(perfect)
    empty = diagnose(truth, truth.assign(score=1.0).iloc[:0])
    assert "**missed** (+100.0 mAP)" in advice.headline(empty)
    assert "no detections" in advice.profile_words(empty)
    assert "no boundary" in advice.boundary_words(empty)
    assert "no detections" in advice.calibration_words(empty.calibration)
    assert (
        segments_behind.of_kind(empty, "wrong label").empty
        and len(segments_behind.of_kind(empty, MISSED)) == 2
    )
    confusion = class_confusion(empty.ranked, empty.detections, empty.best())
    assert "No matched segment has a wrong class" in advice.confusion_words(confusion)
