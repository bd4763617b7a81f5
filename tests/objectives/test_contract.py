"""What every objective must keep: the contract of `graftlm.objectives._objective`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graftlm.catalog import Catalog
from graftlm.data.features import IGNORED

NAMES = Catalog("objectives").names()
CLASSES = 5


CASES = [(name, kind) for name in NAMES for kind in Catalog("objectives").get(name).kinds]


def problem(
    kind: str, seed: int, rows: int = 12, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets as a head for this kind of answer gives them."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, CLASSES, generator=random, dtype=dtype)
    match kind:
        case "labels":
            rest = torch.randint(CLASSES, (rows - CLASSES,), generator=random)
            return logits, torch.cat([torch.arange(CLASSES), rest])
        case "label_sets":
            return logits, torch.randint(2, (rows, CLASSES), generator=random).float()
        case "numbers":
            return logits[:, :1], torch.randn(rows, generator=random)
        case "answers":  # where an answer starts and ends; the last tokens of every other example are padding
            tokens = 6
            logits = 3 * torch.randn(rows, tokens, 2, generator=random, dtype=dtype)
            logits[::2, 4:] = -torch.inf
            return logits, torch.randint(4, (rows, 2), generator=random)
        case _:  # one label a token, some of them none
            tokens = 4
            logits = 3 * torch.randn(rows, tokens, CLASSES, generator=random, dtype=dtype)
            targets = torch.randint(CLASSES, (rows, tokens), generator=random)
            targets[torch.rand(rows, tokens, generator=random) < 0.3] = IGNORED
            targets[0] = IGNORED
            return logits, targets


def bound(name: str, targets: torch.Tensor, **options: Any) -> Any:
    labels = [f"label {index}" for index in range(CLASSES)]
    return Catalog("objectives").get(name)(**options).bind(targets.numpy(), labels)


def value(loss: Any, logits: torch.Tensor, targets: torch.Tensor, parts: int) -> torch.Tensor:
    """The loop's arithmetic: totals over micro-batches, each divided by the weight of the whole."""
    weights = loss.weights(targets)
    result = torch.zeros((), dtype=logits.dtype)
    for some, theirs in zip(logits.chunk(parts), targets.chunk(parts), strict=True):
        for term in loss.terms(some, theirs):
            result = result + term.coefficient * term.total / weights[term.name]
    return result


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_split_into_micro_batches_changes_nothing(name: str, kind: str, seed: int) -> None:
    logits, targets = problem(kind, seed)
    loss = bound(name, targets)
    whole = value(loss, logits, targets, 1)
    for parts in (2, 3, 12):
        assert value(loss, logits, targets, parts).item() == pytest.approx(whole.item(), rel=1e-12)
    weights = [loss.weights(part) for part in targets.chunk(4)]
    for term, weight in loss.weights(targets).items():
        assert sum(part[term] for part in weights) == pytest.approx(weight, rel=1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_gradient_is_that_of_the_value(name: str, kind: str, seed: int) -> None:
    logits, targets = problem(kind, seed, rows=7)
    loss = bound(name, targets)
    assert torch.autograd.gradcheck(lambda given: value(loss, given, targets, 2), logits.requires_grad_())


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_terms_are_scalars_with_a_weight_each(name: str, kind: str, seed: int) -> None:
    logits, targets = problem(kind, seed, dtype=torch.float32)
    loss = bound(name, targets)
    terms = loss.terms(logits.bfloat16(), targets)
    assert [term.name for term in terms] == list(loss.weights(targets))
    assert all(term.total.ndim == 0 and term.total.dtype == torch.float32 for term in terms)
