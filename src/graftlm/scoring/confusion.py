"""How often each label was predicted for each reference label, for one sample or many resamples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graftlm.errors import DataError, clip


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of the (reference, predicted) pairs that occur; all other cells of the K x K matrix are zero.

    Only the occurring cells are kept, at most one per row: with 1,000 labels a dense matrix would hold a
    million numbers for each of the thousands of resamples.

    Args:
        reference: label index of each cell [cells].
        predicted: label index of each cell [cells].
        counts: rows in each cell [..., cells]; leading axes are resamples.
        num_labels: K.
    """

    reference: NDArray[np.int64]
    predicted: NDArray[np.int64]
    counts: NDArray[np.int64]
    num_labels: int

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """Rows of each label that were predicted right [..., K]."""
        right = self.reference == self.predicted
        return _sum_by(self.reference[right], self.counts[..., right], self.num_labels)

    @cached_property
    def references(self) -> NDArray[np.int64]:
        """Rows of each label in the references [..., K]."""
        return _sum_by(self.reference, self.counts, self.num_labels)

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """Rows of each label in the predictions [..., K]."""
        return _sum_by(self.predicted, self.counts, self.num_labels)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Number of rows [...]."""
        return self.counts.sum(axis=-1)

    def matrix(self) -> NDArray[np.int64]:
        """Return the dense counts [..., K, K]; rows are references."""
        size = self.num_labels
        dense = np.zeros((*self.counts.shape[:-1], size * size), dtype=np.int64)
        dense[..., self.reference * size + self.predicted] = self.counts
        return dense.reshape(*self.counts.shape[:-1], size, size)

    @property
    def numbers_per_draw(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return max(len(self.reference), self.num_labels)

    @property
    def num_rows(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return int(self.counts.sum())

    def draw(self, generator: np.random.Generator, resamples: int) -> Confusion:
        """See `graftlm.scoring.sample.Sample`; the cells are drawn, which is the same as drawing rows."""
        rows = self.num_rows
        counts = generator.multinomial(rows, self.counts / rows, size=resamples)
        return Confusion(self.reference, self.predicted, counts, self.num_labels)


def count(references: ArrayLike, predictions: ArrayLike, num_labels: int) -> Confusion:
    """Return the counts of one sample.

    Args:
        references: label index of each row [n].
        predictions: label index of each row [n].
        num_labels: K; every index must lie in 0 ... K - 1.

    Raises:
        DataError: no rows, different lengths, or an index that is not a label.
    """
    truth = _indices(references, "references", num_labels)
    guess = _indices(predictions, "predictions", num_labels)
    if len(truth) != len(guess):
        raise DataError(
            f"{len(truth)} references but {len(guess)} predictions: one of each per row is needed"
        )
    if not len(truth):
        raise DataError("there are no rows to score", fix="give a split with at least one row")
    cells, counts = np.unique(truth * num_labels + guess, return_counts=True)
    return Confusion(cells // num_labels, cells % num_labels, counts.astype(np.int64), num_labels)


def _indices(values: ArrayLike | Sequence[int], name: str, num_labels: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"{name} must be one label index per row, got shape {array.shape} of {array.dtype}")
    wrong = np.flatnonzero((array < 0) | (array >= num_labels))
    if len(wrong):
        raise DataError(
            f"{name}: {clip(int(array[wrong[0]]))} is not one of {num_labels} labels ({len(wrong)} rows)",
            where=f"row {int(wrong[0]) + 1}",
        )
    return array.astype(np.int64)


def _sum_by(index: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the sums of ``counts`` [..., cells] over equal ``index`` [cells] as [..., size]."""
    sums = np.zeros((*counts.shape[:-1], size), dtype=np.int64)
    if len(index):
        order = np.argsort(index, kind="stable")
        present, starts = np.unique(index[order], return_index=True)
        sums[..., present] = np.add.reduceat(counts[..., order], starts, axis=-1)
    return sums
