"""Accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import Counts, ratio


class Accuracy:
    """Share of items whose predicted label is the reference: hits / references, summed over labels, 0 to 1."""

    name: ClassVar[str] = "accuracy"
    kinds: ClassVar[tuple[str, ...]] = ("labels", "tags")
    directions: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    def values(self, sample: Counts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` [...]."""
        return {"accuracy": ratio(sample.hits.sum(axis=-1), sample.references.sum(axis=-1))}
