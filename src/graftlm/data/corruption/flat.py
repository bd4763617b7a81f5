"""Items of many examples one behind the other, with how many each example has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftlm.data.ragged import Ragged

Counts = NDArray[np.int64]


def first_items(counts: Counts) -> Counts:
    """Return where the items of each example begin, [examples]."""
    return np.cumsum(counts) - counts


def owners(counts: Counts) -> Counts:
    """Return which example each item belongs to, [items]."""
    return np.repeat(np.arange(len(counts)), counts)


def positions_within(counts: Counts) -> Counts:
    """Return the number of each item within its example, from 0, [items]."""
    return np.arange(counts.sum()) - np.repeat(first_items(counts), counts)


def sums_before(values: NDArray[np.int64], counts: Counts) -> NDArray[np.int64]:
    """Return for each item the sum of those before it in its example, [items]."""
    before = np.cumsum(values) - values
    return before - np.repeat(before[first_items(counts)[counts > 0]], counts[counts > 0])


def sums(values: NDArray[np.int64], counts: Counts) -> NDArray[np.int64]:
    """Return the sum of the items of each example, [examples]."""
    total = np.concatenate([[0], np.cumsum(values)])
    first = first_items(counts)
    return total[first + counts] - total[first]


def ragged(values: NDArray[np.int32], lengths: Counts) -> Ragged:
    """Return flat values as rows of the given lengths."""
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
