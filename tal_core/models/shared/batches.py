"""The batches of one epoch as a sequence of known length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any


class Batches(Sequence[Any]):
    """Batches of ``size`` entries of ``order``, which was drawn for an epoch; a subclass reads one."""

    def __init__(self, order: Any, size: int):
        self.order, self.size = order, size

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, step: Any) -> Any:
        if not 0 <= step < len(self):
            raise IndexError(step)
        return self.read(step, self.order[step * self.size : (step + 1) * self.size])

    @abstractmethod
    def read(self, step: int, entries: Any) -> Any:
        """Batch ``step``, of its ``entries`` of the order."""
