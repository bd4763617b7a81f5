"""Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.ranking import weighted_correlation, weighted_ranks
from graftlm.scoring.sample import Rows


class Spearman:
    """Pearson's correlation of the ranks, ties sharing their mean rank, -1 to 1; 0 for a constant answer."""

    name: ClassVar[str] = "spearman"
    kinds: ClassVar[tuple[str, ...]] = ("numbers",)
    directions: ClassVar[Mapping[str, bool]] = {"spearman": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``spearman`` [...]."""
        ranks = [weighted_ranks(sample.columns[name], sample.weights) for name in ("reference", "prediction")]
        return {"spearman": weighted_correlation(ranks[0], ranks[1], sample.weights)}
