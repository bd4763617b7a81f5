"""Places of spans: each arrangement as likely as any other, within the budget."""

from __future__ import annotations

import numpy as np
from scipy import stats

from graftlm.data.corruption.flat import sums
from graftlm.data.corruption.spans import scattered
from graftlm.data.corruption.uniforms import corruption_keys


def test_every_arrangement_is_as_likely() -> None:
    """Of 8 units 3 in spans of 2 and, as the budget ends, 1: 6 gaps for the one and 5 for the other."""
    times = 6000
    drawn, each = np.full(2 * times, 2), np.full(times, 1)
    spans = scattered(drawn, 2 * each, 3 * each, 8 * each, corruption_keys(0, 0, np.arange(times)))
    assert (spans.counts == 2).all()
    found = [
        (*lengths, *gaps)
        for lengths, gaps in zip(
            spans.lengths.reshape(-1, 2).tolist(), spans.gaps.reshape(-1, 2).tolist(), strict=True
        )
    ]
    kinds = sorted(set(found))
    assert len(kinds) == 30
    assert stats.chisquare([found.count(kind) for kind in kinds]).pvalue > 1e-6


def test_the_budget_is_spent_exactly_and_spans_stay_apart(seed: int) -> None:
    """Also where too little was drawn, and where there is no room for so many spans."""
    random = np.random.default_rng(seed)
    units = random.integers(0, 12, 500)
    budgets = random.integers(0, units + 1)
    counts = np.where(budgets > 0, random.integers(1, 8, 500), 0)
    drawn = random.integers(0, 4, counts.sum())
    spans = scattered(drawn, counts, budgets, units, corruption_keys(seed, 0, np.arange(500)))
    assert np.array_equal(sums(spans.lengths, spans.counts), budgets)
    numbers = np.split(spans.numbers(), np.cumsum(units)[:-1])
    gaps = np.split(spans.gaps, np.cumsum(spans.counts)[:-1])
    for size, budget, number, gap in zip(units, budgets, numbers, gaps, strict=True):
        assert (number >= 0).sum() == budget and len(number) == size
        assert (np.diff(gap) > 0).all() and (not len(gap) or 0 <= gap[0] <= gap[-1] <= size - budget)
