"""Adafactor: the numbers of torch, steps that may be split, and exact resume."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.training.networks import check_resume, distance, network, plan, random_examples, train
from torch import nn

from graftlm.strategies.full import Full
from graftlm.training.adafactor import TorchAdafactor
from graftlm.training.optimisation import build_optimizer, set_learning_rate

RATE, DECAY = 2e-2, 0.1


def _build(model: nn.Module) -> TorchAdafactor:
    return build_optimizer(model, Full().parameter_groups(model), RATE, DECAY, optimizer="adafactor")


@pytest.mark.parametrize("limit", [None, 0.5])
def test_the_numbers_are_those_of_torch(seed: int, limit: float | None) -> None:
    ours, theirs = network(seed), network(seed)
    optimizer = _build(ours)
    stock = torch.optim.Adafactor(
        [
            {"params": [each for each in theirs.parameters() if each.ndim >= 2], "weight_decay": DECAY},
            {"params": [each for each in theirs.parameters() if each.ndim < 2], "weight_decay": 0.0},
        ]
    )
    random = torch.Generator().manual_seed(seed)
    for step in range(10):
        rate = set_learning_rate(optimizer, 1.0 - step / 20)
        for group in stock.param_groups:
            group["lr"] = rate
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=random)
            other.grad = one.grad.clone()
        norm = optimizer.gradient_norm()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), limit or math.inf)
        assert norm == pytest.approx(float(expected), rel=1e-5)
        with optimizer.attached():
            optimizer.clip_and_step(norm, limit)
        stock.step()
        optimizer.zero_grad()
    assert distance(ours, theirs) < 1e-6


def test_it_learns_and_splitting_steps_changes_nothing(seed: int) -> None:
    """One batch is learnt by heart; 1 x 16 = 4 x 4 but for rounding."""
    examples = random_examples(seed, count=16)
    whole = network(seed)
    steps = plan(total_steps=100, warmup_share=0.0, schedule="constant")
    losses = [step.loss for step in train(whole, examples, steps, optimizer=_build(whole))]  # pyright: ignore
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    again, parts = network(seed), network(seed)
    train(again, examples, plan(total_steps=5), optimizer=_build(again))  # pyright: ignore
    train(parts, examples, plan(total_steps=5, micro_batch=4), optimizer=_build(parts))  # pyright: ignore
    assert distance(again, parts) < 1e-4


@pytest.mark.parametrize("stop", [1, 4])
def test_resume_is_bitwise(seed: int, stop: int, tmp_path: Path) -> None:
    """Through a checkpoint on disk, with dropout."""
    check_resume(_build, seed, stop, tmp_path)
