import pytest

from tal_core.data.benchmarks.published import (
    METRICS,
    benchmark_of,
    comparable,
    published_maps,
    read_published,
)
from tal_core.types import InputError

HEAD = "dataset,method,year,features,classifier,metric,at,value,computed,source,note\n"


def test_every_figure_has_a_source_and_known_ones_are_right():
    table = read_published()
    assert (table["source"] != "").all() and set(table["metric"]) == set(METRICS)
    assert len(table) == 139
    thumos = published_maps(table, "THUMOS14").set_index("name")
    assert thumos.loc["TriDet (I3D)", ["0.3", "0.7", "average"]].tolist() == [83.62, 47.35, 69.27]
    assert thumos.loc["ActionFormer (I3D), by OpenTAD", "average"] == 68.44
    assert "computed" in thumos.loc["BSN (two-stream + UntrimmedNet)", "note"]
    activitynet = published_maps(table, "ActivityNet-1.3").set_index("name")
    assert activitynet.loc["BMN (TSN + CUHK)", ["0.5", "0.75", "0.95", "average"]].tolist() == [
        50.97, 34.98, 8.35, 34.21,
    ]  # fmt: skip


@pytest.mark.parametrize("benchmark", ["THUMOS14", "ActivityNet-1.3"])
def test_averages_computed_here_are_those_of_their_row(benchmark):
    table = published_maps(read_published(), benchmark)
    assert table["name"].is_unique
    for row in table[table["note"].str.contains("computed")].to_dict("records"):
        values = [row[t] for t in ("0.3", "0.4", "0.5", "0.6", "0.7")]
        assert row["average"] == pytest.approx(sum(values) / 5, abs=0.051)


def test_a_benchmark_is_known_by_exactly_its_classes():
    conditions = comparable()
    assert len(conditions["ActivityNet-1.3"].classes) == 200
    classes = list(conditions["THUMOS14"].classes)
    assert len(classes) == 20 and benchmark_of(classes, conditions) == "THUMOS14"
    assert benchmark_of([c.replace("Cliff", "cliff_") for c in classes], conditions) == "THUMOS14"
    assert benchmark_of(classes[1:], conditions) is None
    assert benchmark_of([*classes, "Fencing"], conditions) is None


def test_another_subset_is_no_match():
    thumos = comparable()["THUMOS14"]
    assert thumos.mismatch("testing", 212) == thumos.mismatch("Test", 213) == ""
    assert "subset" in thumos.mismatch("validation", 200) and "subset" in thumos.mismatch(None, 412)
    assert "has 20" in thumos.mismatch("testing", 20)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("X,M,2020,f,,mAP,0.5,50,no,,", "line 2: source is empty"),
        ("X,M,2020,f,,mAP,0.5,150,no,s,", "between 0 and 100"),
        ("X,M,2020,f,,mAP,0.5,high,no,s,", "not a number"),
        ("X,M,2020,f,,F1,0.5,50,no,s,", "metric is none of"),
        ("X,M,2020,f,,mAP,low,50,no,s,", "at must be"),
        ("X,M,2020,f,,mAP,0.5,50,no,s,\nX,M,2020,f,,mAP,0.5,51,no,s,", "line 3: the figure is there twice"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, row, words):
    path = tmp_path / "published.csv"
    path.write_text(HEAD + row + "\n")
    with pytest.raises(InputError, match=words):
        read_published(path)
