"""Ranks of weighted rows, ties sharing the mean of their ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tied_sums(
    order: NDArray[np.int64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the weight of each group of equal values, in the given order, and the group of each row.

    Args:
        order: positions of the rows, so that equal values stand together [rows].
        values: [rows].
        weights: [..., rows].

    Returns:
        Sums [..., groups] and group positions [rows].
    """
    ranked = values[order]
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    sums = np.add.reduceat(weights[..., order], first, axis=-1)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    return sums, group


def weighted_ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each row [..., rows], from 1, among rows that occur ``weights`` [..., rows] times."""
    sums, group = tied_sums(np.argsort(values, kind="stable"), values, weights)
    ranks = np.cumsum(sums, axis=-1) - sums + (sums + 1) / 2
    return ranks[..., group]


def weighted_correlation(
    one: NDArray[np.float64], other: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Pearson's correlation [...] of two numbers per row [..., rows] with weights [..., rows].

    0 where ``other`` is constant: such an answer follows nothing. NaN where ``one`` is: there is nothing to follow.
    """
    total = weights.sum(axis=-1, keepdims=True)

    def centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values - (weights * values).sum(axis=-1, keepdims=True) / total

    first, second = centred(one), centred(other)
    spreads = [(weights * part**2).sum(axis=-1) for part in (first, second)]
    # Rounding leaves a constant a spread of about the square of its last bit.
    constant = [
        spread <= 1e-24 * (weights * np.abs(values) ** 2).sum(axis=-1)
        for spread, values in zip(spreads, (one, other), strict=True)
    ]
    together = (weights * first * second).sum(axis=-1)
    # Their product would leave the range of numbers long before they do.
    scale = np.sqrt(spreads[0]) * np.sqrt(spreads[1])
    value = np.divide(together, scale, out=np.zeros_like(scale), where=~(constant[0] | constant[1]))
    return np.where(constant[0], np.nan, value)
