"""Subset accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.sample import Rows


class SubsetAccuracy:
    """Share of rows whose predicted set of labels is exactly that of the reference, 0 to 1."""

    name: ClassVar[str] = "subset_accuracy"
    kinds: ClassVar[tuple[str, ...]] = ("label_sets",)
    directions: ClassVar[Mapping[str, bool]] = {"subset_accuracy": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``subset_accuracy`` [...]."""
        return {"subset_accuracy": sample.sum("exact") / sample.rows}
