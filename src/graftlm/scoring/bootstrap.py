"""Scores with percentile bootstrap intervals over rows.

Method: draw n rows with replacement, compute every value again, take the (1 - c) / 2 and (1 + c) / 2
quantiles over the resamples. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13.

Every value is a function of counts. Where these are a confusion matrix, n rows drawn with replacement fill its
cells with a multinomial draw: n trials, probability of a cell = its share of the rows. Drawing cells instead of
rows gives the same distribution at a cost that depends on the occurring cells, not on the rows. Elsewhere the
draw decides how often each row counts (`graftlm.scoring.sample.Rows`).

Limits: rows, or clusters of them where the sample has these, are taken as independent, and a resample never holds
anything that the sample does not: at exactly 0 or 1 the interval has width zero however few rows there are (where all
are right, reports say what that leaves open), below about 30 rows it is too narrow, and macro averages over many rare
labels are drawn low, because a resample holds fewer different rows than the sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftlm.errors import ConfigurationError, nearest
from graftlm.scoring.confusion import Confusion
from graftlm.scoring.metric import Metric
from graftlm.scoring.sample import Sample
from graftlm.scoring.scores import Score, Scores

NUMBERS_AT_ONCE = 2_000_000
"""Bound on the numbers held at a time: about 16 MB for the draws and as much again per margin."""


def score(
    sample: Sample,
    labels: Sequence[str],
    metrics: Sequence[Metric],
    primary: str,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Scores:
    """Return every value of every metric with its interval.

    Args:
        sample: what was seen, at least one row.
        labels: K label names; empty where there are none.
        metrics: what to measure.
        primary: name of the value that stands for the split, such as ``accuracy`` or ``f1_macro``.
        confidence: coverage of the intervals, between 0 and 1.
        resamples: number of bootstrap resamples, at least 1.
        seed: the same seed and the same sample give the same intervals.

    Raises:
        ConfigurationError: no metric gives the primary value, or an argument is out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ConfigurationError(
            f"need 0 < confidence < 1 and resamples >= 1, got {confidence} and {resamples}"
        )
    measured = {
        name: float(value) for metric in metrics for name, value in metric.values(sample, labels).items()
    }
    directions = {name: better for metric in metrics for name, better in metric.directions.items()}
    if primary not in measured or primary not in directions:
        raise ConfigurationError(
            f"no metric gives the value {primary!r}.{nearest(primary, directions)}",
            where="primary_metric",
            fix=f"choose one of: {', '.join(directions)}",
        )
    points = np.nan_to_num(np.array(list(measured.values())))
    low, high = _interval(sample, labels, metrics, points, confidence, resamples, seed)
    return Scores(
        values={
            name: Score(*(float(number) for number in numbers))
            for name, *numbers in zip(measured, points, low, high, strict=True)
        },
        primary=primary,
        greater_is_better=directions[primary],
        rows=sample.num_rows,
        confidence=confidence,
        resamples=resamples,
        labels=tuple(labels),
        references=[int(number) for number in getattr(sample, "references", [])] if labels else [],
        undefined=frozenset(name for name, value in measured.items() if math.isnan(value)),
        confusion=sample.matrix().tolist() if isinstance(sample, Confusion) else [],
    )


def draws(sample: Sample, resamples: int, seed: int) -> Iterator[Any]:
    """Yield ``resamples`` bootstrap resamples in chunks of bounded size, along a leading axis."""
    generator = np.random.default_rng(seed)
    chunk = max(1, NUMBERS_AT_ONCE // sample.numbers_per_draw)
    for start in range(0, resamples, chunk):
        yield sample.draw(generator, min(chunk, resamples - start))


def _interval(
    sample: Sample,
    labels: Sequence[str],
    metrics: Sequence[Metric],
    points: NDArray[np.float64],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends, one per value in the order of the metrics."""
    chunks = [
        np.stack([value for metric in metrics for value in metric.values(resample, labels).values()])
        for resample in draws(sample, resamples, seed)
    ]
    values = np.concatenate(chunks, axis=1)
    # A value that no resample says anything about gets 0 throughout, as the sample itself does.
    values[np.isnan(values).all(axis=1)] = 0.0
    moved = [getattr(metric, "recentred", False) for metric in metrics for _ in metric.values(sample, labels)]
    values[moved] += (points - values.mean(axis=1))[moved, None]
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    holes = np.isnan(values).any(axis=1)
    low_high = np.empty((2, len(values)))
    low_high[:, ~holes] = np.quantile(values[~holes], ends, axis=1)
    if holes.any():
        low_high[:, holes] = np.nanquantile(values[holes], ends, axis=1)
    return low_high[0], low_high[1]
