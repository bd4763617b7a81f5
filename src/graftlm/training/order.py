"""In which order examples are visited: a pure function of a seed, so that a resumed run goes on as it would have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graftlm.training.batching import Source, epoch_batches
from graftlm.training.randomness import generator

_SAVED = 7 / 16
"""Of the tokens of a step: so many fewer a growing budget has in the mean."""


@dataclass(frozen=True)
class Due:
    """The examples of one optimiser step.

    Args:
        source: what they are drawn from, as it is in this pass.
        rows: the examples.
        passes: passes finished after it, fractional.
    """

    source: Source
    rows: NDArray[np.int64]
    passes: float


class Order(Protocol):
    """Which examples each step gets."""

    def steps(self, source: Source, start: int) -> Iterator[Due]:
        """Yield the steps without end, from step ``start`` (0-based) on; a step has examples of one pass only.

        Args:
            source: of the examples.
            start: steps that were done before.
        """
        ...


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return ceil(examples / batch_size)."""
    return math.ceil(examples / batch_size)


@dataclass(frozen=True)
class Epochs:
    """So many examples a step; the last one of a pass may have fewer.

    Args:
        batch_size: examples per step, over all ranks.
        kind: see `epoch_batches`.
        seed: of the run.
    """

    batch_size: int
    kind: str
    seed: int

    def steps(self, source: Source, start: int) -> Iterator[Due]:
        """Yield the steps, see `Order`; every pass has the same lengths."""
        lengths = source.lengths
        per_epoch = steps_per_epoch(len(lengths), self.batch_size)
        for epoch in itertools.count(start // per_epoch):
            batches = epoch_batches(lengths, self.batch_size, self.kind, self.seed, epoch)
            current = source.in_pass(epoch)
            for number in range(max(start, epoch * per_epoch), (epoch + 1) * per_epoch):
                yield Due(current, batches[number % per_epoch], (number + 1) / per_epoch)


@dataclass(frozen=True)
class TokenBudgets:
    """About so many tokens a step, of examples of any length, in an order that is drawn anew in each pass.

    A step takes examples until the next one would exceed its budget, one at least, and ends with the pass.

    Args:
        tokens: of a step, over all ranks.
        seed: of the run.
        total_steps: of the run.
        warmup_steps: over so many first steps the budget grows linearly from an eighth to the whole.
        short_steps: so many first steps draw from the shorter examples of the source, in passes of their own.
    """

    tokens: int
    seed: int
    total_steps: int
    warmup_steps: int = 0
    short_steps: int = 0

    def steps(self, source: Source, start: int) -> Iterator[Due]:
        """Yield the steps, see `Order`; a pass is finished when as many tokens were seen as the first one has."""
        number, seen = 0, 0
        whole = int(source.in_pass(0).lengths.sum())
        for passes in itertools.count():
            short = number < self.short_steps
            current = source.in_pass(passes, short)
            lengths = current.lengths
            rows = generator("order", self.seed, passes).permutation(len(lengths)).astype(np.int64)
            done = np.cumsum(lengths[rows])
            at = 0
            while at < len(rows) and short == (number < self.short_steps):
                before = 0 if at == 0 else int(done[at - 1])
                until = max(at + 1, int(np.searchsorted(done, before + self.budget(number), side="right")))
                seen += int(done[until - 1]) - before
                if number >= start:
                    yield Due(current.at(number / self.total_steps), rows[at:until], seen / whole)
                number, at = number + 1, until

    def budget(self, number: int) -> int:
        """Return the tokens of step ``number`` (0-based)."""
        if number >= self.warmup_steps:
            return self.tokens
        return max(1, round(self.tokens * (1 + 7 * number / self.warmup_steps) / 8))

    @classmethod
    def of_passes(
        cls, source: Source, tokens: int, passes: float, seed: int, warmup_share: float, short_share: float
    ) -> TokenBudgets:
        """Return the order whose last step completes so many passes over the source.

        Args:
            source: of the examples.
            tokens: of a step.
            passes: over the tokens of the source.
            seed: of the run.
            warmup_share: share of the steps over which the budget grows.
            short_share: share of the steps whose examples are short.
        """
        guess = int(source.in_pass(0).lengths.sum()) / tokens * _steps(passes, warmup_share)
        order = cls(tokens, seed, 1, round(guess * warmup_share), round(guess * short_share))
        total = next(
            number for number, due in enumerate(order.steps(source, 0), 1) if due.passes >= passes - 1e-9
        )
        return replace(order, total_steps=total)


def shares_of_longer_run(
    passes: float, warmup_share: float, short_share: float, longer: float
) -> tuple[float, float]:
    """Return the shares of a longer run, of growing and of short steps, that name the very steps of a shorter one.

    Args:
        passes, warmup_share, short_share: of the shorter run, see `TokenBudgets.of_passes`.
        longer: passes of the longer one; the shares stay what they were where it is none.
    """
    if longer <= passes:
        return warmup_share, short_share
    steps = _steps(passes, warmup_share)
    part = steps / (longer + _SAVED * warmup_share * steps)
    return warmup_share * part, short_share * part


def _steps(passes: float, warmup_share: float) -> float:
    """Return how many steps so many passes are, in steps of whole budgets a pass."""
    return passes / (1 - _SAVED * warmup_share)
