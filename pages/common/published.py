"""Published results beside measured ones: which benchmark, which results, and their table."""

import pandas as pd
import streamlit as st

from pages.common import address
from tal_core.data.benchmarks.published import benchmark_of, comparable, published_maps, read_published
from tal_core.data.dataset.dataset import Dataset

NONE = "none"
COLUMNS = {
    "value": st.column_config.NumberColumn("value (%)", format="%.2f"),
    "at": st.column_config.TextColumn("at", help="tIoU of a mAP, number of proposals of an AR, or average."),
    "computed": st.column_config.CheckboxColumn("computed here", help="An average of the source's own row."),
}


@st.cache_data(show_spinner=False)
def figures() -> tuple[pd.DataFrame, dict]:
    return read_published(), comparable()


def pick_references(data: Dataset, subset: str | None, methods: list[str]) -> pd.DataFrame:
    """The published results to draw (rows of ``published_maps``): by default those of the same methods.

    Only a dataset with exactly a benchmark's classes gets its results by itself, and only on its subset.
    """
    table, benchmarks = figures()
    own = benchmark_of(data.labels, benchmarks)
    first, second = st.columns([1, 3])
    name = address.pick(
        "Published results of",
        [NONE, *benchmarks],
        "published",
        default=[own or NONE],
        place=first,
        help="Figures from papers and code repositories, with their sources. Found by the dataset's classes.",
    )
    if name == NONE:
        return table.iloc[:0]
    results = published_maps(table, name)
    differs = benchmarks[name].mismatch(subset, len(data.videos(subset, usable=False)))
    if name != own:
        differs = f"the classes of **{data.name}** aren't those of {name}"
    same = results["method"].str.lower().isin([method.lower() for method in methods])
    default = results.loc[same, "name"].tolist() or results["name"].head(1).tolist()
    chosen = address.pick(
        "Results to draw",
        results["name"].tolist(),
        f"published-{name}",
        default=[] if differs else default,
        kind="multiselect",
        place=second,
        placeholder="none",
    )
    if differs:
        st.caption(f"Not comparable as it is: {differs}. So none is drawn unless you choose it.")
    return results[results["name"].isin(chosen)]


def show_table(benchmark: str | None) -> None:
    """Every published figure with its source, one benchmark's first."""
    table, benchmarks = figures()
    names = list(benchmarks)
    with st.expander("Published results, each figure with its source", icon=":material/menu_book:"):
        st.caption("Published, not measured here: from papers and code repositories, under their conditions.")
        left, right = st.columns(2)
        name = left.selectbox(
            "Benchmark", names, index=names.index(benchmark) if benchmark else 0, key="published_benchmark"
        )
        metrics = table.loc[table["dataset"] == name, "metric"].unique().tolist()
        metric = right.selectbox("Metric", metrics, key="published_metric")
        if metric == "mAP":
            shown = published_maps(table, name).drop(columns=["name", "dataset"])
            numeric = [c for c in shown.columns if c == "average" or c.replace(".", "", 1).isdigit()]
            shown = shown[["method", "year", "features", "classifier", *numeric, "source", "note"]]
            columns = {c: st.column_config.NumberColumn(c, format="%.2f") for c in numeric}
        else:
            shown = table[(table["dataset"] == name) & (table["metric"] == metric)]
            shown, columns = shown.drop(columns=["dataset", "metric"]), COLUMNS
        shown = shown.loc[:, [not (shown[c] == "").all() for c in shown.columns]]
        st.dataframe(shown, hide_index=True, column_config=columns, alt=f"Published {metric} on {name}")
        csv = table.to_csv(index=False)
        st.download_button("Download all as CSV", csv, "published.csv", "text/csv", on_click="ignore")
