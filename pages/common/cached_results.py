"""Results kept in memory for all sessions, by the identity of the tables that they were made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import streamlit as st

from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.outcomes import label_detections
from tal_core.evaluation.result import Evaluation

P = ParamSpec("P")
R = TypeVar("R")


def cached_by_identity(
    spinner: str | bool = False,
    entries: int = 24,
    hash_funcs: Mapping[type, Callable[[Any], Any]] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the results of a function by its arguments, shared by all sessions: never change them.

    Datasets and tables count by identity, which costs nothing; the cache holds them, so that an id stays its
    own. ``hash_funcs``: how arguments of other classes are told apart.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def with_arguments(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Any]:
            return function(*args, **kwargs), (args, kwargs)

        cached = st.cache_resource(
            max_entries=entries,
            show_spinner=spinner,
            hash_funcs=dict([(Dataset, id), (pd.DataFrame, id), *(hash_funcs or {}).items()]),
        )(with_arguments)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return cached(*args, **kwargs)[0]

        return call

    return decorate


@cached_by_identity("Evaluating", 48)
def evaluated(
    data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: tuple[float, ...], protocol: str
) -> Evaluation:
    """The evaluation on a subset (None: on all videos). Raises InputError."""
    truth, videos = data.ground_truth(subset), data.videos(subset, usable=False)
    return evaluate(truth, detections, tiou, protocol=protocol, videos=videos)


@cached_by_identity("Matching detections")
def matched(
    data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The subset's annotations, and the detections in its videos with their outcomes."""
    truth = data.ground_truth(subset)
    inside = detections[detections["video_id"].isin(data.videos(subset, usable=False))]
    return truth, label_detections(truth, inside, tiou)[0]
