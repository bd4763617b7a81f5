"""Mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import ratio
from graftlm.scoring.ranking import tied_sums
from graftlm.scoring.sample import Rows


class MeanAveragePrecision:
    """How well each label ranks the rows, whatever the thresholds, 0 to 1: the mean over labels of
    AP = sum over ranks of (recall_n - recall_(n-1)) precision_n, rows of equal score sharing a rank.

    Source: scikit-learn's ``average_precision_score``. Labels without a row that has them are left out.
    """

    name: ClassVar[str] = "mean_average_precision"
    kinds: ClassVar[tuple[str, ...]] = ("label_sets",)
    directions: ClassVar[Mapping[str, bool]] = {"mean_average_precision": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``mean_average_precision`` [...]."""
        total = np.zeros(sample.weights.shape[:-1])
        counted = np.zeros_like(total)
        for scores, truth in zip(sample.columns["scores"].T, sample.columns["references"].T, strict=True):
            order = np.argsort(-scores, kind="stable")
            given, _ = tied_sums(order, scores, sample.weights)
            right, _ = tied_sums(order, scores, sample.weights * truth)
            precision = ratio(np.cumsum(right, axis=-1), np.cumsum(given, axis=-1))
            positive = right.sum(axis=-1)
            total += ratio((right * precision).sum(axis=-1), positive)
            counted += positive > 0
        mean = np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)
        return {"mean_average_precision": mean}
