"""Rows of integers of different lengths in one array, in a fraction of the memory of lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[list[int]]):
    """Reads as a list of lists of integers, which are made when they are asked for.

    Args:
        values: all rows one behind the other, int32 [integers].
        starts: where each row begins, and where the last one ends, int64 [rows + 1].
    """

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | NDArray[np.int64]]) -> Ragged:
        """Copy rows; each integer must fit into 32 bits with sign."""
        rows = list(rows)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
        return cls(values, _starts(lengths))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """Return the rows of all parts, in order."""
        values = [np.zeros(0, dtype=np.int32), *(part.values for part in parts)]
        lengths = [np.zeros(0, dtype=np.int64), *(part.lengths for part in parts)]
        return cls(np.concatenate(values), _starts(np.concatenate(lengths)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Integers of each row, [rows]."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row = index % len(self)
        return self.values[self.starts[row] : self.starts[row + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (self[row] for row in range(len(self)))


def lengths_of(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return how many integers each row has, [rows]; without making any of them where they are `Ragged`."""
    return (
        rows.lengths if isinstance(rows, Ragged) else np.fromiter(map(len, rows), np.int64, count=len(rows))
    )


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
