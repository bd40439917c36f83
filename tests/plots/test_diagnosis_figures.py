import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.diagnosis import segments_behind
from tal_core.evaluation.diagnosis.diagnose import diagnose
from tal_core.evaluation.diagnosis.segment_errors import class_confusion, errors_per_class
from tal_core.evaluation.outcomes import MISSED, OUTCOMES
from tal_core.plots import diagnosis as plots
from tal_core.plots import diagnosis_maps as maps


@pytest.fixture(scope="module")
def diagnosis():
    random = np.random.default_rng(0)
    start = random.uniform(0, 80, 60)
    truth = pd.DataFrame(
        {
            "video_id": [f"v{i % 12}" for i in range(60)],
            "start": start,
            "end": start + random.uniform(1, 15, 60),
            "label": random.choice(["jump", "run", "<b>throw</b>"], 60),
        }
    )
    base = truth.iloc[random.integers(0, 60, 300)].reset_index(drop=True)
    shift = random.normal(0, 2, (2, 300))
    detections = base.assign(
        start=base["start"] + shift[0],
        end=base["end"] + np.abs(shift[1]),
        label=random.choice(["jump", "run", "<b>throw</b>"], 300),
        score=random.random(300),
    )
    return diagnose(truth, detections, durations=pd.Series(100.0, index=truth["video_id"].unique()))


def bars(figure):
    return [(key, trace.y[i] if trace.orientation != "h" else trace.x[i])
            for trace in figure.data if trace.type == "bar"
            for i, key in enumerate(trace.customdata)]  # fmt: skip


def test_gains_are_sorted_and_carry_their_kind(diagnosis):
    figure = plots.gain_figure(diagnosis)
    fixed = figure.data[1]
    assert list(fixed.x) == sorted(fixed.x)
    assert [key[0] for key in fixed.customdata] == list(fixed.y)
    assert set(fixed.y) == {*OUTCOMES[1:], MISSED}


def test_profile_bars_carry_what_lists_their_segments(diagnosis):
    total = 0
    for (kind, band, count), _ in bars(plots.profile_figure(diagnosis)):
        table = segments_behind.of_kind(diagnosis, kind, int(band))
        assert len(table) == count
        total += len(table)
    assert total == diagnosis.false_positives.band_sizes.sum() > 0


def test_bucket_bars_carry_characteristic_and_bucket(diagnosis):
    for figure, values in (
        (plots.sensitivity_figure(diagnosis), diagnosis.sensitivity.buckets),
        (plots.missed_figure(diagnosis), diagnosis.false_negatives.rates),
    ):
        shown = bars(figure)
        assert len(shown) == sum(len(kind.names) for kind in diagnosis.characteristics.values())
        for key, height in shown:
            assert height == pytest.approx(100 * values(key[0])[key[1]], nan_ok=True)


def test_offset_bars_hold_every_matched_segment(diagnosis):
    figure = plots.boundary_figure(diagnosis.boundaries)
    for (side, low, high), count in bars(figure):
        assert len(segments_behind.of_offset(diagnosis, side, low, high)) == count
    assert sum(count for _, count in bars(figure)) == 2 * len(diagnosis.boundaries) > 0


def test_offset_bins_have_a_round_width_and_zero_in_the_middle():
    for reach in (0.02, 1.3, 47.0):
        edges = plots.histogram_edges(np.random.default_rng(1).normal(0, reach, 500))
        width = edges[1] - edges[0]
        assert np.allclose(np.diff(edges), width)
        assert np.isclose(edges, -width / 2).any(), "one bin is centred on zero"
        assert 5 <= len(edges) <= plots.HISTOGRAM_BINS + 4
        mantissa = width / 10 ** np.floor(np.log10(width) + 1e-9)
        assert np.isclose(mantissa, [1, 2, 5]).any()
    assert len(plots.histogram_edges(np.zeros(0))) > 1
    assert len(plots.histogram_edges(np.zeros(5))) > 1


def test_ranges_of_offsets_in_words():
    assert plots.offset_range(-plots.BEYOND, -2.0) == "-2 s and earlier"
    assert plots.offset_range(1.5, plots.BEYOND) == "+1.5 s and later"
    assert plots.offset_range(-0.5, 0.5) == "-0.5 to +0.5 s"


def test_reliability_bars_carry_their_bin(diagnosis):
    for (low, high, count, _), _ in bars(plots.reliability_figure(diagnosis.calibration)):
        assert len(segments_behind.of_score(diagnosis, low, high)) == count


def test_class_bars_carry_class_and_kind(diagnosis):
    counts = errors_per_class(diagnosis.ranked, diagnosis.best(2))
    for (label, kind), count in bars(plots.class_errors_figure(counts)):
        assert len(segments_behind.of_class(diagnosis, label, kind, 2)) == count


def cells(figure):
    heat, markers = figure.data
    for x, y, key in zip(markers.x, markers.y, markers.customdata, strict=True):
        yield key, heat.z[y][x], heat.text[y][x]


def test_cells_of_classes_by_bucket(diagnosis):
    labels = diagnosis.ranked.labels
    for name, kind in diagnosis.characteristics.items():
        table = diagnosis.sensitivity.per_class[name]
        shown = list(cells(maps.class_map(diagnosis, name)))
        assert len(shown) == np.isfinite(table).sum() > len(kind.names)
        for key, value, _ in shown:
            assert value == pytest.approx(100 * table[labels.index(key[2]), key[1]])


def test_cells_of_pairs(diagnosis):
    shown = list(cells(maps.pair_map(diagnosis, "coverage", "length")))
    rates = diagnosis.false_negatives.pair_rates("coverage", "length")
    assert len(shown) == np.isfinite(rates).sum() > 0
    for (_, row, _, column), value, _ in shown:
        assert value == pytest.approx(100 * rates[row, column])


def test_cells_of_the_confusion(diagnosis):
    confusion = class_confusion(diagnosis.ranked, diagnosis.detections, diagnosis.best(2))
    figure = maps.confusion_map(confusion)
    counts = {
        (row, column): confusion.counts[i, j]
        for i, row in enumerate([*confusion.labels, segments_behind.BACKGROUND])
        for j, column in enumerate([*confusion.labels, MISSED])
    }
    shown = list(cells(figure))
    assert len(shown) == len(counts) - 1, "background that is missed is nothing"
    for (row, column), _, text in shown:
        assert text == (str(counts[row, column]) if counts[row, column] else "")
    assert not any("<b>" in text for text in figure.layout.xaxis.ticktext), "names are not HTML"


def test_every_figure_can_be_drawn_without_detections(diagnosis):
    truth = diagnosis.ranked.truth
    empty = diagnose(truth, diagnosis.detections.iloc[:0])
    figures = [
        plots.gain_figure(empty),
        plots.profile_figure(empty),
        plots.sensitivity_figure(empty),
        plots.missed_figure(empty),
        plots.boundary_figure(empty.boundaries),
        plots.reliability_figure(empty.calibration),
        plots.class_errors_figure(errors_per_class(empty.ranked, empty.best())),
        maps.class_map(empty, "length"),
        maps.pair_map(empty, "length", "num-instances"),
        maps.confusion_map(class_confusion(empty.ranked, empty.detections, empty.best())),
    ]
    for figure in figures:
        assert figure.to_json()
