import numpy as np
import pytest

from tal_core.evaluation.result import Evaluation
from tal_core.plots.postprocessing_lab import (
    change_bars,
    class_changes,
    compare_table,
    settings_text,
    suggestion_table,
)
from tal_core.postprocessing.lab import Suggestion, Trial
from tal_core.postprocessing.nms import Suppression


def evaluation(*rows) -> Evaluation:
    labels = [f"class <{n}>" for n in range(len(rows))]
    return Evaluation([0.5, 0.7], labels, np.array(rows, float), 2, 4, 6)


BEFORE, AFTER = evaluation([0.5, 0.3], [0.2, 0.2]), evaluation([0.4, 0.2], [0.6, 0.3])


def test_differences_are_in_points_of_percent():
    table = compare_table(BEFORE, AFTER).set_index("settings")
    assert table.loc["difference"].tolist() == pytest.approx([15, 0, 7.5])
    assert table.loc["lab", "average"] == pytest.approx(100 * AFTER.average_mAP)
    changes = class_changes(BEFORE, AFTER)
    assert changes["label"].tolist() == ["class <1>", "class <0>"]
    assert changes["change"].tolist() == pytest.approx([25, -10])


def test_bars_show_the_largest_changes_and_plain_names():
    rng = np.random.default_rng(0)
    before, after = evaluation(*rng.random((40, 2))), evaluation(*rng.random((40, 2)))
    changes = class_changes(before, after)
    bars = change_bars(changes).data[0]
    assert len(bars.x) == 20 and min(map(abs, bars.x)) >= changes["change"].abs().nlargest(20).min()
    assert list(bars.x) == sorted(bars.x) and all("<" not in name for name in bars.y)
    assert change_bars(changes[:0]).data[0].x.size == 0


def test_settings_in_words():
    assert settings_text(Suppression()) == "soft, sigma 0.5, per class"
    agnostic = Suppression("hard", 0.3, nms_per_class=False, voting_threshold=0.7)
    assert settings_text(agnostic) == "hard, tIoU 0.3, over all classes, voting 0.7"
    assert settings_text(Suppression("none", voting_threshold=0.7)) == "no NMS, per class"


def test_suggestions_without_held_back_videos_have_no_such_column():
    trial = Trial(Suppression(), 0.5, 0.4)
    table = suggestion_table(Suggestion([trial], trial, 70, 5, 5))
    assert table["place"].tolist() == ["1", "as set"] and table["held back"].tolist() == pytest.approx(
        [40, 40]
    )
    alone = Trial(Suppression(), 0.5)
    assert "held back" not in suggestion_table(Suggestion([alone], alone, 70, 5, 0))
