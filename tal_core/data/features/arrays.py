"""One feature array in a file: its header without its content, and rows of it.

Formats: ``.npy`` (any window by itself), ``.npz``, ``.pt``/``.pth``, ``.h5``/``.hdf5``, ``.csv``. Nothing is
ever unpickled: object arrays and full pickles are refused.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from tal_core.types import InputError

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5", ".csv")
H5_SUFFIXES = (".h5", ".hdf5")
_USUAL_KEYS = ("features", "feature", "feats", "feat", "data", "arr_0")
_NPY_HEAD = 192  # bytes; a 2-D array's header takes 128
_HINT = "Write a 2-D array (time, channels) of float16 or float32."


@dataclass(frozen=True)
class Source:
    """Where an array is: a file and, in an ``.h5`` of many videos, the key of the dataset or group."""

    file: str
    key: str = ""

    @property
    def path(self) -> Path:
        """The file; text is what is kept, since 20 000 paths take long to make."""
        return Path(self.file)

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.file)[1].lower()  # noqa: PTH122  # 20 000 times, a Path is slow

    def __str__(self) -> str:
        return f"{self.file}[{self.key}]" if self.key else self.file


@dataclass(frozen=True)
class Header:
    """Shape and dtype as stored."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_header(source: Source) -> Header:
    """Shape and dtype of a source, without reading its content where the format allows it.

    Raises:
        InputError: if there is no readable array of real numbers.
    """
    try:
        shape, dtype = _HEADERS[source.suffix](source)
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        raise InputError("holds Python objects (a pickle), which is never loaded", where=source, hint=_HINT)
    if dtype.kind not in "fiu":
        raise InputError(f"dtype {dtype} is not a real number", where=source, hint=_HINT)
    return Header(tuple(map(int, shape)), dtype)


def read_array(
    source: Source, start: int = 0, stop: int | None = None, *, time_axis: int = 0, as_stored: bool = False
) -> np.ndarray:
    """Snippets ``start:stop`` as a new array (T, D); ``time_axis`` is the stored array's.

    It is float32, or with ``as_stored`` float16 where the file has that.

    Raises:
        InputError: if the file can't be read any more.
    """
    try:
        part = _READERS[source.suffix](source, slice(start, stop), time_axis)
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error
    if part.ndim != 2:
        raise InputError(f"the array has {part.ndim} dimensions", where=source, hint=_HINT)
    dtype = np.float16 if as_stored and part.dtype == np.float16 else np.float32
    owned = part.flags.owndata and not time_axis
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which the scan reports
        return np.array(part.T if time_axis else part, dtype=dtype, order="C", copy=None if owned else True)


# What numpy, torch, h5py and pandas raise on damaged files; torch's unpickler falls over its own stack.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    UnpicklingError,
)


def _unreadable(source: Source, error: BaseException) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError("no such file", where=source.path, hint="Put it back, or check the dataset again.")
    if isinstance(error, UnpicklingError) and "global" in str(error).lower():
        return InputError("holds Python objects (a pickle), which is never loaded", where=source, hint=_HINT)
    reason = str(error).split("\n", maxsplit=1)[0][:120]
    return InputError(
        f"can't be read ({reason})", where=source, hint="The file may be damaged; copy it again."
    )


def _cut(array: Any, window: slice, time_axis: int) -> Any:
    return array[:, window] if time_axis else array[window]


def _pick(names: list[str], source: Source) -> str:
    """The name of the array of features among several in one file."""
    if len(names) == 1:
        return names[0]
    usual = [name for name in _USUAL_KEYS if name in names]
    if not usual:
        found = ", ".join(names[:5]) or "none"
        raise InputError(
            f"which array holds the features? Found: {found}",
            where=source,
            hint="Keep one, or name it 'features'.",
        )
    return usual[0]


# --- .npy and .npz ------------------------------------------------------------------------------------


class _NpyLayout(NamedTuple):
    """What the header of an .npy file says, and where its content begins."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int


def _npy_layout(file: Any) -> _NpyLayout:
    """Read the header at the start of an open .npy file."""
    head = file.read(_NPY_HEAD)
    if head[:8] == b"\x93NUMPY\x01\x00" and len(head) >= 10:
        size = 10 + int.from_bytes(head[8:10], "little")
        if size <= len(head):
            return _parsed_npy(head[:size])
    return _parsed_npy(head + file.read())


@lru_cache(maxsize=8192)  # parsing takes longer than reading a window
def _parsed_npy(head: bytes) -> _NpyLayout:
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return _NpyLayout(shape, fortran, dtype, file.tell())


def _header_npy(source: Source) -> tuple[tuple[int, ...], np.dtype]:
    with open(source.file, "rb", buffering=0) as file:  # noqa: PTH123  # 20 000 times, a Path is slow
        layout = _npy_layout(file)
        missing = math.prod(layout.shape) * layout.dtype.itemsize - (
            os.fstat(file.fileno()).st_size - layout.offset
        )
    if missing > 0 and not layout.dtype.hasobject:
        raise ValueError(f"{missing} bytes are missing at the end")
    return layout.shape, layout.dtype


def _read_npy(source: Source, window: slice, time_axis: int) -> np.ndarray:
    """Only the window's own bytes, in one piece where they lie together.

    A memory-mapped file that is cut off meanwhile would end the process; a read that comes short is told.
    """
    with open(source.file, "rb", buffering=0) as file:  # noqa: PTH123  # as above
        layout = _npy_layout(file)
        if layout.fortran or time_axis or len(layout.shape) != 2 or layout.dtype.hasobject:
            return _cut(np.load(source.file, mmap_mode="r", allow_pickle=False), window, time_axis)
        start, stop, _ = window.indices(layout.shape[0])
        part = np.empty((max(0, stop - start), layout.shape[1]), layout.dtype)
        file.seek(layout.offset + start * layout.shape[1] * layout.dtype.itemsize)
        view = part.data.cast("B") if part.size else memoryview(b"")
        done = 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise ValueError(f"{len(view) - done} bytes are missing at the end")
            done += count
    return part


def _header_npz(source: Source) -> tuple[tuple[int, ...], np.dtype]:
    with zipfile.ZipFile(source.path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        with archive.open(_pick(names, source) + ".npy") as file:
            layout = _npy_layout(file)
    return layout.shape, layout.dtype


def _read_npz(source: Source, window: slice, time_axis: int) -> np.ndarray:
    with np.load(source.path, allow_pickle=False) as archive:
        return _cut(archive[_pick(archive.files, source)], window, time_axis)


# --- .pt ----------------------------------------------------------------------------------------------


def _tensor(source: Source) -> Any:
    import torch  # a second of start-up that only .pt files need

    try:
        value = torch.load(source.path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # files of the old, unzipped format can't be memory-mapped
        value = torch.load(source.path, map_location="cpu", weights_only=True)
    if isinstance(value, dict):
        tensors = {str(name): t for name, t in value.items() if isinstance(t, torch.Tensor)}
        value = tensors[_pick(list(tensors), source)]
    if not isinstance(value, torch.Tensor):
        raise InputError(f"holds a {type(value).__name__}, not a tensor", where=source, hint=_HINT)
    return value.detach()


def _header_pt(source: Source) -> tuple[tuple[int, ...], np.dtype]:
    tensor = _tensor(source)
    # numpy has no bfloat16; such a tensor is read as float32
    name = str(tensor.dtype).removeprefix("torch.").replace("bfloat16", "float32")
    return tuple(tensor.shape), np.dtype(name)


def _read_pt(source: Source, window: slice, time_axis: int) -> np.ndarray:
    part = _cut(_tensor(source), window, time_axis)
    return (part if str(part.dtype) == "torch.float16" else part.float()).numpy()


# --- .h5 ----------------------------------------------------------------------------------------------


def _h5_dataset(file: h5py.File, source: Source) -> h5py.Dataset:
    node: Any = file[source.key] if source.key else file
    if isinstance(node, h5py.Group):
        arrays = [name for name in node if isinstance(node.get(name, getclass=True), type(h5py.Dataset))]
        node = node[_pick(arrays, source)]
    if not isinstance(node, h5py.Dataset) or Path(node.file.filename) != Path(file.filename):
        raise InputError("is not an array in this file", where=source, hint=_HINT)
    return node


def _header_h5(source: Source) -> tuple[tuple[int, ...], np.dtype]:
    with h5py.File(source.path, "r") as file:
        dataset = _h5_dataset(file, source)
        return dataset.shape or (), dataset.dtype


def _read_h5(source: Source, window: slice, time_axis: int) -> np.ndarray:
    with h5py.File(source.path, "r") as file:
        return _cut(_h5_dataset(file, source), window, time_axis)


def h5_keys(path: Path) -> list[str]:
    """Names at the top of an ``.h5`` file, one per video.

    Raises:
        InputError: if the file can't be read.
    """
    try:
        with h5py.File(path, "r") as file:
            return list(file)
    except OSError as error:
        raise _unreadable(Source(str(path)), error) from error


# --- .csv ---------------------------------------------------------------------------------------------


def _csv_table(path: Path) -> pd.DataFrame:
    """A CSV's numbers; a first line of names, or of the columns' own numbers, is a heading."""
    with path.open(encoding="utf-8-sig") as file:
        cells = [cell.strip().strip('"') for cell in file.readline().split(",")]
    try:
        list(map(float, cells))
        counts = [list(map(str, range(first, first + len(cells)))) for first in (0, 1)]
        heading = len(cells) > 1 and cells in counts
    except ValueError:
        heading = True
    return pd.read_csv(path, header=0 if heading else None)


def _header_csv(source: Source) -> tuple[tuple[int, ...], np.dtype]:
    table = _csv_table(source.path)
    kinds = {dtype.kind for dtype in table.dtypes}
    return table.shape, np.dtype(np.float64) if kinds <= set("fiu") else np.dtype("U1")


def _read_csv(source: Source, window: slice, time_axis: int) -> np.ndarray:
    return _cut(_csv_table(source.path).to_numpy(), window, time_axis)


_HEADERS = {
    ".npy": _header_npy, ".npz": _header_npz, ".pt": _header_pt, ".pth": _header_pt,
    ".h5": _header_h5, ".hdf5": _header_h5, ".csv": _header_csv,
}  # fmt: skip
_READERS = {
    ".npy": _read_npy, ".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt,
    ".h5": _read_h5, ".hdf5": _read_h5, ".csv": _read_csv,
}  # fmt: skip
