"""Recall of proposals equals the ActivityNet script's; tests/golden/evaluation/README.md."""

import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.average_precision import clean_ground_truth
from tal_core.evaluation.proposal_recall import proposal_recall, without_repeats
from tal_core.types import InputError
from tests.evaluation.golden_tables import ground_truth_table, load


def proposal_table(content):
    rows = [
        (video, *map(float, one["segment"]), float(one["score"]))
        for video, entries in content["results"].items()
        for one in entries
    ]
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "score"])


@pytest.fixture(scope="module")
def case():
    truth, _ = ground_truth_table(load("map_activitynet/ground_truth.json.gz"), "validation")
    proposals = proposal_table(load("recall_activitynet/proposals.json.gz"))
    return truth, proposals, load("recall_activitynet/expected.json.gz")


def same(found, expected):
    np.testing.assert_allclose(found.average_recall, expected["average_recall"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.proposals_per_video, expected["proposals_per_video"], rtol=0, atol=1e-9)
    assert found.auc == pytest.approx(expected["AUC"], abs=1e-12)


@pytest.mark.parametrize(("name", "most"), [("max_100", 100), ("max_50", 50), ("max_none", None)])
def test_official_curve(case, name, most):
    truth, proposals, expected = case
    found, expected = proposal_recall(truth, proposals, most), expected["activitynet_official"][name]
    same(found, expected)
    np.testing.assert_allclose(found.recall, expected["recall"], rtol=0, atol=1e-12)
    assert found.num_ground_truth == expected["num_ground_truth"]
    assert found.num_videos == expected["num_videos_with_ground_truth"]
    assert found.num_proposals == expected["num_proposals_in_file"]


def test_figures_of_the_task(case):
    truth, proposals, expected = case
    written = proposal_recall(truth, proposals).to_json()
    for number in (1, 5, 10, 100):
        stated = expected["activitynet_official"]["max_100"][f"AR@{number}"]
        assert written["AR"][str(number)] == pytest.approx(stated, abs=1e-12)
    assert written["AUC"] == pytest.approx(89.6314, abs=1e-4)
    assert set(proposal_recall(truth, proposals, 50).to_json()["AR"]) == {"1", "5", "10"}


def test_opentad_is_the_same_on_cleaned_annotations(case):
    truth, proposals, expected = case
    kept, _ = clean_ground_truth(truth, "toolbox")
    same(proposal_recall(kept, proposals), expected["opentad"]["max_100"])


def test_row_order_does_not_matter(case):
    truth, proposals, _ = case
    mixed = proposals.drop_duplicates("score").sample(frac=1, random_state=0)
    again = mixed.sample(frac=1, random_state=1)
    truth = truth.sample(frac=1, random_state=2)
    assert np.array_equal(proposal_recall(truth, mixed).recall, proposal_recall(truth, again).recall)


EDGES = load("recall_activitynet/edge_cases.json")["cases"]


@pytest.mark.parametrize("edge", EDGES, ids=[edge["name"] for edge in EDGES])
def test_edge_cases(edge):
    truth, _ = ground_truth_table(edge["ground_truth"], edge["subset"])
    proposals = proposal_table(edge["proposals"])
    expected, most = edge["expected"]["activitynet_official"], edge["max_avg_nr_proposals"]
    if "stops_with" in expected:
        with pytest.raises(InputError, match="no proposal is in a video with annotations"):
            proposal_recall(truth, proposals, most, edge["tiou"])
    else:
        same(proposal_recall(truth, proposals, most, edge["tiou"]), expected)


def test_without_ground_truth_or_room():
    truth = pd.DataFrame({"video_id": ["a"], "start": [0.0], "end": [1.0], "label": ["x"]})
    proposals = pd.DataFrame(
        {"video_id": ["a"] * 3, "start": [0.0] * 3, "end": [1.0] * 3, "score": [1.0] * 3}
    )
    with pytest.raises(InputError, match="no ground truth"):
        proposal_recall(truth[:0], proposals)
    with pytest.raises(InputError, match=r"at most 0.3 proposals per video leave none"):
        proposal_recall(truth, proposals, 0.3)
    found = proposal_recall(truth, proposals)  # all scores equal
    assert found.average_recall[-1] == 1 and found.num_videos == 1


def test_a_segment_of_several_classes_is_one_proposal():
    table = pd.DataFrame(
        [
            ("a", 0.0, 1.0, "x", 0.2),
            ("a", 0.0, 1.0, "y", 0.9),
            ("a", 0.0, 2.0, "x", 0.5),
            ("b", 0.0, 1.0, "x", 0.1),
        ],
        columns=["video_id", "start", "end", "label", "score"],
    )
    assert without_repeats(table)["score"].tolist() == [0.9, 0.5, 0.1]
