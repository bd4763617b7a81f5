"""How many different n-grams there are, in a sample or in many resamples at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUMBERS_AT_ONCE = 50_000_000
"""Bound on the bytes held at a time."""


@dataclass(frozen=True, eq=False)
class NgramRows:
    """The rows in which each n-gram occurs.

    Args:
        totals: n-grams of each row, as often as they occur [rows].
        alone: different n-grams of each row that no other row has [rows].
        shared: rows of the first n-gram that several have, then those of the next, and so on.
        starts: where in ``shared`` the rows of each n-gram begin.
    """

    totals: NDArray[np.float64]
    alone: NDArray[np.float64]
    shared: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, words: Sequence[Sequence[str]], size: int) -> NgramRows:
        """Return those of ``size`` words of each row."""
        rows_of: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, text in enumerate(words):
            for ngram in set(zip(*(text[start:] for start in range(size)), strict=False)):
                rows_of[ngram].append(row)
        alone = np.zeros(len(words))
        shared: list[int] = []
        starts: list[int] = []
        for rows in rows_of.values():
            if len(rows) == 1:
                alone[rows[0]] += 1
            else:
                starts.append(len(shared))
                shared += rows
        totals = np.array([max(0, len(text) - size + 1) for text in words], np.float64)
        return cls(totals, alone, np.array(shared, np.int64), np.array(starts, np.int64))

    def different(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number of different n-grams [...] in the rows of weight above 0 [..., rows]."""
        present = (weights > 0).reshape(-1, weights.shape[-1])
        found = present @ self.alone
        if len(self.starts):
            chunk = max(1, NUMBERS_AT_ONCE // len(self.shared))
            for start in range(0, len(present), chunk):
                # Rows in front, so that each step of the reduction is over all resamples at once.
                occurs = present[start : start + chunk].T[self.shared]
                found[start : start + chunk] += np.logical_or.reduceat(occurs, self.starts).sum(axis=0)
        return found.reshape(weights.shape[:-1])
