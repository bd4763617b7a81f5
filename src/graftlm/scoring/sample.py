"""What was seen on the rows of a split, and resamples of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Sample(Protocol):
    """What a metric looks at: one sample, or many resamples at once along leading axes."""

    @property
    def numbers_per_draw(self) -> int:
        """How many numbers one resample holds: bounds how many are drawn at a time."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows of the sample."""
        ...

    def draw(self, generator: np.random.Generator, resamples: int) -> Self:
        """Return ``resamples`` samples of as many rows, drawn with replacement."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Numbers of each row, and how often each row counts.

    A resample changes the weights only: n rows drawn with replacement are a multinomial draw of the weights. So a
    metric that is a function of weighted rows (a ratio of sums, a correlation, a ranking) is computed for all
    resamples at once.

    Args:
        columns: name -> one number per row [rows], or several [rows, K].
        weights: how often each row counts [..., rows]; leading axes are resamples.
    """

    columns: Mapping[str, NDArray[np.float64]]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, **columns: NDArray[np.float64] | NDArray[np.bool_]) -> Rows:
        """Return the sample in which every row counts once."""
        rows = len(next(iter(columns.values())))
        return cls({name: np.asarray(values, np.float64) for name, values in columns.items()}, np.ones(rows))

    def sum(self, name: str) -> NDArray[np.float64]:
        """Return the weighted sum of a column over the rows, [...] or [..., K]."""
        return np.tensordot(self.weights, self.columns[name], axes=(-1, 0))

    @property
    def rows(self) -> NDArray[np.float64]:
        """Number of rows [...]."""
        return self.weights.sum(axis=-1)

    @cached_property
    def hits(self) -> NDArray[np.float64]:
        """Items of each label that were predicted right [..., K]."""
        return self.sum("hits")

    @cached_property
    def references(self) -> NDArray[np.float64]:
        """Items of each label in the references [..., K]."""
        return self.sum("references")

    @cached_property
    def predictions(self) -> NDArray[np.float64]:
        """Items of each label in the predictions [..., K]."""
        return self.sum("predictions")

    @property
    def numbers_per_draw(self) -> int:
        """See `Sample`."""
        return max(self.weights.shape[-1], *(values[0].size for values in self.columns.values()))

    @property
    def num_rows(self) -> int:
        """See `Sample`."""
        return int(self.weights.shape[-1])

    def draw(self, generator: np.random.Generator, resamples: int) -> Rows:
        """See `Sample`."""
        rows = self.num_rows
        weights = generator.multinomial(rows, np.full(rows, 1.0 / rows), size=resamples)
        return Rows(self.columns, weights.astype(np.float64))
