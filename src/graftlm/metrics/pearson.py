"""Pearson's correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.ranking import weighted_correlation
from graftlm.scoring.sample import Rows


class Pearson:
    """Linear correlation of predicted numbers and references, -1 to 1; 0 for a constant answer."""

    name: ClassVar[str] = "pearson"
    kinds: ClassVar[tuple[str, ...]] = ("numbers",)
    directions: ClassVar[Mapping[str, bool]] = {"pearson": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``pearson`` [...]."""
        columns = sample.columns
        return {"pearson": weighted_correlation(columns["reference"], columns["prediction"], sample.weights)}
