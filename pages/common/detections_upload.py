"""An uploaded detections file, read and fitted to a dataset."""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from tal_core.data.dataset.dataset import Dataset
from tal_core.importing.run_of_detections import fit_videos, read_foreign
from tal_core.types import InputError


@st.cache_resource(max_entries=4, show_spinner="Reading the file")
def read_upload(file_id: str, name: str, _content: bytes) -> pd.DataFrame:  # pylint: disable=unused-argument
    """An uploaded detections file; errors name it as its owner does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(_content)
        try:
            return read_foreign(path)
        except InputError as error:
            raise InputError(error.what, where=name, hint=error.hint) from None


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Dataset: id, pd.DataFrame: id})
def renamed(data: Dataset, detections: pd.DataFrame) -> tuple:
    """A file's detections under the dataset's video ids, and what was renamed or left out."""
    table, notes = fit_videos(detections, data)
    return table, notes, (data, detections)
