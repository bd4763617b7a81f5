"""Matthews correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.confusion import Confusion


class MatthewsCorrelation:
    """Correlation of references and predictions over all labels, -1 to 1; 0 for a constant answer.

    With n rows, c hits, and t_k, p_k rows of label k in references and predictions:
    (c n - sum t_k p_k) / sqrt((n^2 - sum t_k^2) (n^2 - sum p_k^2)).
    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.

    Where only one label is left on either side the value is 0, as in scikit-learn; where one label is left on
    both sides, a resample says nothing and is left out of the interval.
    """

    name: ClassVar[str] = "matthews_correlation"
    kinds: ClassVar[tuple[str, ...]] = ("labels",)
    directions: ClassVar[Mapping[str, bool]] = {"matthews_correlation": True}

    def values(self, sample: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``matthews_correlation`` [...]."""
        # Products of four counts overflow 64-bit integers from 55,000 rows on; in float64 they do not.
        rows = sample.rows.astype(np.float64)
        truth, guess = sample.references.astype(np.float64), sample.predictions.astype(np.float64)
        together = sample.hits.sum(axis=-1) * rows - (truth * guess).sum(axis=-1)
        spread_truth, spread_guess = rows**2 - (truth**2).sum(axis=-1), rows**2 - (guess**2).sum(axis=-1)
        scale = np.sqrt(spread_truth * spread_guess)
        value = np.divide(together, scale, out=np.zeros_like(scale), where=scale > 0)
        return {"matthews_correlation": np.where((spread_truth == 0) & (spread_guess == 0), np.nan, value)}
