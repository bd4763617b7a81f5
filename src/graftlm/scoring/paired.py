"""How far two ways of answering the same rows are apart in a metric.

Method: rows are drawn with replacement, the same ones for both, and the difference is taken of each draw; the interval
is between quantiles over the draws (percentile bootstrap, see `graftlm.scoring.bootstrap`). What both ways get right or
wrong alike cancels, so the interval is much narrower than those of the two values.

Limit: rows are taken as independent, also where several are about one text. Between two precisions of one network,
whose differences are rounding, they nearly are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.scores import Score

RESAMPLES = 200


def paired_difference(
    values_of: Callable[[NDArray[np.int64]], tuple[float, float]],
    rows: int,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Score:
    """Return the second value minus the first, with its interval.

    Draws on which a value is undefined say nothing; where all are, the difference is 0, as is one of all rows.

    Args:
        values_of: positions of rows, some several times -> the value of either way on them, NaN where undefined.
        rows: how many there are, at least one.
        confidence: coverage of the interval.
        resamples: draws.
        seed: the same seed and the same rows give the same interval.
    """
    generator = np.random.default_rng(seed)
    drawn = np.array([values_of(generator.integers(rows, size=rows)) for _ in range(resamples)])
    differences = drawn[:, 1] - drawn[:, 0]
    if np.isnan(differences).all():
        differences[:] = 0.0
    low, high = np.nanquantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    one, other = values_of(np.arange(rows))
    return Score(float(np.nan_to_num(other - one)), float(low), float(high))
