"""What every metric answers, and which metrics fit what a task compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from graftlm.catalog import Catalog
from graftlm.errors import nearest


class Metric(Protocol):
    """A number, or several, of a sample. One file per metric in ``graftlm/metrics``.

    One whose values fall with the number of different rows also says ``recentred = True``: a resample has fewer of them
    than the sample, so resamples are moved until their mean is the value itself.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    """The kinds of answers it can compare, see `graftlm.tasks._task.Task`."""
    directions: ClassVar[Mapping[str, bool]]
    """Name of each value that may be the primary one -> whether more is better."""

    def values(self, sample: Any, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return name of the value -> [...], one number per leading axis of ``sample``.

        A ratio with denominator zero is 0, as scikit-learn has it with ``zero_division=0``. NaN means that
        the sample says nothing at all about the value (the label occurs neither in references nor
        predictions): a resample is then left out of the interval; for the sample itself 0 is reported.
        """
        ...


def metrics_of(kind: str) -> list[Metric]:
    """Return every metric of the catalog that can compare things of this kind."""
    catalog = Catalog("metrics")
    found: list[Any] = [catalog.get(name)() for name in catalog.names()]
    return [metric for metric in found if kind in metric.kinds]


def check_primary(value: str, kind: str) -> str:
    """Return the name of a value that may be primary; raise `ValueError` with the known ones otherwise."""
    known = [name for metric in metrics_of(kind) for name in metric.directions]
    if value not in known:
        raise ValueError(f"must be one of {', '.join(sorted(known))}.{nearest(value, known)}")
    return value
