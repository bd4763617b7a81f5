"""What was seen on the rows of a split, and resamples of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        """Return ``resamples`` samples of as many rows, or clusters of rows, drawn with replacement."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Numbers of each row, and how often each row counts.

    A resample changes the weights only: n rows drawn with replacement are a multinomial draw of the weights. So a
    metric that is a function of weighted rows (a ratio of sums, a correlation, a ranking) is computed for all
    resamples at once.

    Rows that were not drawn one by one, such as questions about one text, are not independent of each other. They are
    resampled together (the cluster bootstrap: Field and Welsh, Bootstrapping clustered data, 2007).

    Args:
        columns: name -> one number per row [rows], or several [rows, K].
        weights: how often each row counts [..., rows]; leading axes are resamples.
        clusters: for each row the number of its cluster, from 0 and without gaps [rows]; None makes each row its own.
    """

    columns: Mapping[str, NDArray[np.float64]]
    weights: NDArray[np.float64]
    clusters: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, **columns: NDArray[np.float64] | NDArray[np.bool_]) -> Rows:
        """Return the sample in which every row counts once."""
        rows = len(next(iter(columns.values())))
        return cls({name: np.asarray(values, np.float64) for name, values in columns.items()}, np.ones(rows))

    def together(self, values: Sequence[Hashable]) -> Rows:
        """Return the sample with rows of equal value in one cluster."""
        numbers: dict[Hashable, int] = {}
        clusters = np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
        return replace(self, clusters=clusters)

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
        units = self.num_rows if self.clusters is None else int(self.clusters.max()) + 1
        counts = generator.multinomial(units, np.full(units, 1.0 / units), size=resamples).astype(np.float64)
        return Rows(self.columns, counts if self.clusters is None else counts[:, self.clusters])
