"""Learning rate, optimiser and the choice of the best evaluation."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from tests.training.networks import network

from graftlm.strategies.full import Full
from graftlm.training.optimisation import build_optimizer, learning_rate_factor, set_learning_rate
from graftlm.training.stopping import BestSoFar


@pytest.mark.parametrize("total", [2, 10, 57])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedule_equals_transformers(total: int, schedule: str) -> None:
    warmup = math.ceil(0.1 * total)
    build = {
        "linear": transformers.get_linear_schedule_with_warmup,
        "cosine": transformers.get_cosine_schedule_with_warmup,
    }[schedule]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    stock = build(optimizer, warmup, total)
    for step in range(total):
        assert learning_rate_factor(step, total, 0.1, schedule) == pytest.approx(
            stock.get_last_lr()[0], abs=1e-12
        )
        optimizer.step()
        stock.step()


def test_a_single_step_moves_something() -> None:
    assert learning_rate_factor(0, 1, 0.1, "linear") == 1.0


def test_constant_schedule_stays_up() -> None:
    assert [learning_rate_factor(step, 10, 0.2, "constant") for step in range(4)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("warmup", "decay"), [(0.1, 0.2), (0.0, 0.5), (0.25, 0.75), (0.3, 0.0)])
@pytest.mark.parametrize("total", [1, 2, 10, 57])
def test_a_trapezoid_rises_stays_and_falls_to_nothing(total: int, warmup: float, decay: float) -> None:
    factors = [learning_rate_factor(step, total, warmup, "trapezoid", decay) for step in range(total + 1)]
    rising = min(math.ceil(warmup * total), total - 1)
    falling = math.ceil(decay * total)
    assert factors[:rising] == [step / rising for step in range(rising)]
    assert all(factor == 1.0 for factor in factors[rising : total - falling])
    left = range(total - max(rising, total - falling), -1, -1) if falling else ()
    assert factors[total + 1 - len(left) :] == pytest.approx([each / falling for each in left])
    assert factors[-1] == (0.0 if falling else 1.0)
    assert max(factors[:-1]) > 0.0


def test_only_matrices_decay_and_rates_follow_the_groups(seed: int) -> None:
    model = network(seed)
    optimizer = build_optimizer(model, Full(layer_decay=0.5).parameter_groups(model), 1e-3, 0.01)
    assert set_learning_rate(optimizer, 0.5) == pytest.approx(5e-4)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.ndim >= 2 else 0.0), names[id(parameter)]
        assert group["lr"] == pytest.approx(group["peak"] / 2)
    rates = {
        names[id(parameter)]: group["peak"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates["classifier.weight"] == pytest.approx(1e-3)
    assert rates["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(5e-4)
    assert rates["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(2.5e-4)
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(1.25e-4)


def test_parameters_of_no_group_are_frozen(seed: int) -> None:
    model = network(seed)
    groups = [
        group for group in Full(layer_decay=0.5).parameter_groups(model) if group.learning_rate_scale == 1.0
    ]
    build_optimizer(model, groups, 1e-3, 0.0)
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moving == {"classifier.weight", "classifier.bias"}


def test_the_later_of_equal_evaluations_is_kept_and_is_no_improvement() -> None:
    best = BestSoFar(greater_is_better=True, patience_evaluations=2)
    assert [best.update(step, value) for step, value in ((1, 0.5), (2, 0.5), (3, 0.7), (4, 0.6))] == [
        True, True, True, False,
    ]  # fmt: skip
    assert (best.step, best.value, best.exhausted) == (3, 0.7, False)
    assert best.update(5, 0.7)
    assert (best.step, best.exhausted) == (5, True)
    assert BestSoFar(**best.dump()) == best


def test_smaller_can_be_better() -> None:
    best = BestSoFar(greater_is_better=False, patience_evaluations=None)
    assert [best.update(step, value) for step, value in ((1, 0.5), (2, 0.6), (3, 0.4))] == [True, False, True]
    assert not best.exhausted
