"""Spans at random places: of words that are hidden, of tokens that are taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corruption.flat import (
    Counts,
    first_items,
    owners,
    positions_within,
    ragged,
    sums,
    sums_before,
)
from graftlm.data.corruption.uniforms import Keys, uniforms
from graftlm.data.ragged import Ragged


@dataclass(frozen=True)
class Spans:
    """Spans of units, such as words or tokens, of many examples, in the order of the text.

    Between two spans of an example there is at least one unit that belongs to none.

    Args:
        lengths: units of each span, zero or more, int64 [spans].
        gaps: how many units that belong to no span stand before it in its example, int64 [spans].
        counts: spans of each example, int64 [examples].
        units: of each example, int64 [examples].
    """

    lengths: NDArray[np.int64]
    gaps: NDArray[np.int64]
    counts: Counts
    units: Counts

    def numbers(self) -> NDArray[np.int64]:
        """Return for each unit which of all spans it belongs to, or -1; int64 [sum of units]."""
        starts = (
            self.gaps + sums_before(self.lengths, self.counts) + first_items(self.units)[owners(self.counts)]
        )
        found = np.full(self.units.sum(), -1, dtype=np.int64)
        inside = np.repeat(starts, self.lengths) + positions_within(self.lengths)
        found[inside] = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return found

    def replaced(self, texts: Ragged, marks: NDArray[np.int32]) -> Ragged:
        """Return texts, whose tokens are the units, with one token in the place of each span.

        Args:
            texts: int32, of the lengths ``units``.
            marks: the tokens that take the places, int32 [spans].
        """
        left = self.units - sums(self.lengths, self.counts)
        places = first_items(left)[owners(self.counts)] + self.gaps
        return ragged(np.insert(texts.values[self.numbers() < 0], places, marks), left + self.counts)


def picked(keys: Keys, counts: Counts, picks: Counts, purpose: str) -> NDArray[np.int64]:
    """Return items of each example, drawn without putting back, in the order in which they were drawn.

    Args:
        keys: uint64 [examples].
        counts: items of each example.
        picks: how many of them are drawn, at most all.
        purpose: see `uniforms`.

    Returns:
        int64 [sum of picks], places among the items of all examples.
    """
    order = np.lexsort((uniforms(keys, counts, purpose), owners(counts)))
    return order[positions_within(counts) < np.repeat(picks, counts)]


def scattered(
    drawn: NDArray[np.int64],
    counts: Counts,
    budgets: Counts,
    units: Counts,
    keys: Keys,
    most: Counts | None = None,
) -> Spans:
    """Return spans that cover a budget of units exactly, at places of which each is as likely as any other.

    Spans are taken as they were drawn until the budget is spent, and the last one is cut to what is left. It gets all
    that is left where too little was drawn, and where there is no room to keep more spans apart.

    Args:
        drawn: lengths of spans, int64 [sum of counts].
        counts: lengths that were drawn for each example; some wherever there is a budget.
        budgets: units to be covered in each example, int64 [examples].
        units: of each example, int64 [examples].
        keys: uint64 [examples].
        most: spans of each example at most, one or more wherever there is a budget, int64 [examples].
    """
    room = units - budgets + 1
    most = room if most is None else np.minimum(room, most)
    before = sums_before(drawn, counts)
    taken = (before < np.repeat(budgets, counts)) & (positions_within(counts) < np.repeat(most, counts))
    kept = sums(taken.astype(np.int64), counts)
    budget = np.repeat(budgets, kept)
    lengths = np.minimum(drawn[taken], budget - before[taken])
    last = np.cumsum(kept)[kept > 0] - 1
    lengths[last] = budget[last] - before[taken][last]
    gaps = picked(keys, room, kept, "places of spans")
    order = np.argsort(gaps)
    return Spans(lengths[order], gaps[order] - np.repeat(first_items(room), kept), kept, units)
