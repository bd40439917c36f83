"""Where the features of training videos are kept, and windows of them.

All training videos lie one behind the other in a single tensor, in the type that the files have; a video's
part is filled when it is first asked for, so that nothing is read before it is needed:

    |-- video 0 --|---- video 1 ----|- video 2 -| ...
    0         first[1]          first[2]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import psutil
import torch

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.device import choose_device
from tal_core.types import InputError

Keep = Literal["auto", "disk", "memory", "device"]

MEMORY_BYTES = 2 * 1024**3
"""With ``auto`` training features up to this size, and half of the free memory, are kept in memory."""
MEMORY_SHARE = 0.9
"""What they may take of the free memory, of the machine or of the device, where it is asked for."""


class FeatureReader:
    """Reads windows of the features of some videos, from their files or from where they are kept.

    ``keep``: ``disk`` reads each window from its file; ``memory`` and ``device`` keep what was read once, in
    the machine's memory or on ``device``; ``auto`` is ``memory`` if all are small, else ``disk``. Several
    threads may read at once.

    Raises:
        InputError: if they don't fit where they shall be kept.
    """

    def __init__(
        self, dataset: FeatureDataset, videos: Sequence[str], keep: Keep = "auto", device: str = "auto"
    ):
        self.dataset = dataset
        self.lengths = dict(zip(videos, dataset.lengths(videos).tolist(), strict=True))
        self.videos = list(self.lengths)
        self.numbers = {video: number for number, video in enumerate(self.videos)}
        ends = np.cumsum([0, *self.lengths.values()])
        self.first, self.ready = ends[:-1], np.zeros(len(self.lengths), bool)
        # Mixed files are float32: half precision would not do for all of them.
        self.dtype = torch.float16 if set(dataset.dtypes(videos)) == {"float16"} else torch.float32
        channels = dataset.num_features if self.videos else 0
        size = int(ends[-1]) * channels * torch.finfo(self.dtype).bits // 8
        self.device = choose_device(device) if keep == "device" else torch.device("cpu")
        self.kept: torch.Tensor | None = None
        if _fits(size, keep, self.device):
            self.kept = torch.empty((int(ends[-1]), channels), dtype=self.dtype, device=self.device)

    def read(self, video: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Snippets ``start:stop`` as stored, float16 or float32 ``(T, D)``; not to be written to.

        Raises:
            InputError: if the video's file has changed or gone.
        """
        if self.kept is None:
            return torch.from_numpy(self.dataset.features(video, start, stop, as_stored=True))
        start, stop, _ = slice(start, stop).indices(self.lengths[video])
        first = self._keep(self.numbers[video])
        return self.kept[first + start : first + stop]

    def gather(self, videos: Sequence[str], snippets: np.ndarray) -> torch.Tensor:
        """Snippets ``(B, W)`` in order, each row of one video: as stored ``(B, W, D)``. As ``read``."""
        if self.kept is None:
            parts = [
                self.read(video, int(row[0]), int(row[-1]) + 1)[torch.from_numpy(row - row[0])]
                for video, row in zip(videos, snippets, strict=True)
            ]
            return torch.stack([part.to(self.dtype) for part in parts])
        first = np.array([self._keep(self.numbers[video]) for video in videos])
        places = torch.from_numpy((first[:, None] + snippets).ravel()).to(self.device)
        return self.kept.index_select(0, places).unflatten(0, snippets.shape)

    def _keep(self, number: int) -> int:
        """Read a video if it wasn't yet; where it begins. Two threads at once write the same."""
        first = int(self.first[number])
        if not self.ready[number]:
            video = self.videos[number]
            part = torch.from_numpy(self.dataset.features(video, as_stored=True))
            assert self.kept is not None
            self.kept[first : first + len(part)] = part
            self.ready[number] = True
        return first


def _fits(size: int, keep: Keep, device: torch.device) -> bool:
    """Whether features of ``size`` bytes are kept. Raises InputError if they shall be, but don't fit."""
    if keep == "disk":
        return False
    free = psutil.virtual_memory().available
    if keep == "auto":
        return size <= min(MEMORY_BYTES, free / 2)
    place = "memory"
    if device.type == "cuda":
        free, place = torch.cuda.mem_get_info(device)[0], "GPU memory"
    if size > MEMORY_SHARE * free:
        what = f"the training features take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of {place} are free"
        raise InputError(what, where="keep_features", hint="Set it to auto or disk, or free some.")
    return True
