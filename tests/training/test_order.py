"""Which examples each step gets."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graftlm.training.order import Due, Epochs, TokenBudgets, shares_of_longer_run


@dataclass(frozen=True)
class Lengths:
    """A source of which only the lengths are asked."""

    long: NDArray[np.int64]
    short: NDArray[np.int64]
    number: int = 0
    is_short: bool = False
    progress: float = 0.0

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.short if self.is_short else self.long

    def in_pass(self, number: int, short: bool = False) -> Lengths:
        return replace(self, number=number, is_short=short)

    def at(self, progress: float) -> Lengths:
        return replace(self, progress=progress)

    batch: Any = None
    targets_of: Any = None


@pytest.fixture
def source(seed: int) -> Lengths:
    draw = np.random.default_rng(seed)
    return Lengths(draw.integers(1, 60, size=300), draw.integers(1, 15, size=500))


def _same(one: Due, other: Due) -> bool:
    sources = [(due.source.number, due.source.is_short, due.source.progress) for due in (one, other)]
    return np.array_equal(one.rows, other.rows) and one.passes == other.passes and sources[0] == sources[1]


@pytest.mark.parametrize("kind", ["shuffled", "length_grouped"])
def test_an_epoch_has_every_example_once_and_goes_on_from_anywhere(source: Lengths, kind: str) -> None:
    order = Epochs(16, kind, 5)
    steps = list(islice(order.steps(source, 0), 40))
    assert sorted(np.concatenate([due.rows for due in steps[:19]])) == list(range(300))
    assert steps[18].passes == 1.0
    assert not np.array_equal(steps[0].rows, steps[19].rows)
    for start in (7, 19, 30):
        again = next(order.steps(source, start))
        assert np.array_equal(again.rows, steps[start].rows) and again.passes == steps[start].passes


def test_a_pass_has_every_example_once_within_the_budget(source: Lengths) -> None:
    steps = list(takewhile(lambda due: due.source.number == 0, TokenBudgets(200, 3, 100).steps(source, 0)))
    assert sorted(np.concatenate([due.rows for due in steps])) == list(range(300))
    tokens = [int(source.long[due.rows].sum()) for due in steps]
    assert max(tokens) <= 200
    # No step but the last of a pass has room for another example.
    assert min(tokens[:-1]) > 200 - 60
    assert steps[-1].passes == pytest.approx(1.0)


def test_an_example_beyond_the_budget_is_a_step_by_itself() -> None:
    source = Lengths(np.array([500, 10, 10]), np.array([1]))
    steps = list(islice(TokenBudgets(20, 1, 10).steps(source, 0), 2))
    assert sorted(len(due.rows) for due in steps) == [1, 2]


@pytest.mark.parametrize(("warmup", "short"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.2, 0.5)])
def test_so_many_passes_and_the_same_from_any_step(
    source: Lengths, warmup: float, short: float, seed: int
) -> None:
    order = TokenBudgets.of_passes(source, 250, 2.5, 11, warmup, short)
    steps = list(islice(order.steps(source, 0), order.total_steps))
    assert steps[-1].passes >= 2.5 > steps[-2].passes
    assert steps[0].source.progress == 0.0 and steps[-1].source.progress == 1 - 1 / order.total_steps
    stages = [due.source.is_short for due in steps]
    assert stages == sorted(stages, reverse=True)
    assert sum(stages) == pytest.approx(short * order.total_steps, abs=0.1 * order.total_steps)
    for start in random.Random(seed).sample(range(order.total_steps), 5):
        assert _same(next(order.steps(source, start)), steps[start])


@pytest.mark.parametrize("longer", [2.5, 3.0, 7.3])
@pytest.mark.parametrize(("warmup", "short"), [(0.0, 0.4), (0.3, 0.0), (0.25, 0.5), (0.1, 1.0)])
def test_a_longer_run_begins_with_the_steps_of_the_shorter(
    source: Lengths, warmup: float, short: float, longer: float
) -> None:
    first = TokenBudgets.of_passes(source, 250, 2.5, 11, warmup, short)
    shares = shares_of_longer_run(2.5, warmup, short, longer)
    second = TokenBudgets.of_passes(source, 250, longer, 11, *shares)
    assert (first.warmup_steps, first.short_steps) == (second.warmup_steps, second.short_steps)
    assert second.total_steps >= first.total_steps and (
        longer == 2.5 or second.total_steps > first.total_steps
    )
    for one, other in islice(
        zip(first.steps(source, 0), second.steps(source, 0), strict=False), first.total_steps
    ):
        assert np.array_equal(one.rows, other.rows) and one.passes == other.passes


def test_the_budget_grows(source: Lengths) -> None:
    order = TokenBudgets(800, 1, 50, warmup_steps=20)
    budgets = [order.budget(number) for number in range(50)]
    assert budgets == sorted(budgets)
    assert budgets[0] == 100 and budgets[20:] == [800] * 30
    assert source.long[next(order.steps(source, 0)).rows].sum() <= 100
