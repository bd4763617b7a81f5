"""Averages of weights: the formula, the way in and back, and through a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.training.compiled import need_library
from tests.training.networks import equal_bits, network, plan, random_examples
from torch import Tensor, nn

from graftlm.errors import RunError
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.strategies.full import Full
from graftlm.strategies.head_only import HeadOnly
from graftlm.training import lazy_rows
from graftlm.training.averaging import AveragedWeights
from graftlm.training.checkpoint import named_weights, newest_checkpoint, save_checkpoint
from graftlm.training.loop import fit
from graftlm.training.optimisation import build_optimizer

DECAY = 0.3


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in named_weights(model).items()}


def _train(
    model: nn.Module, seed: int, averages: AveragedWeights, optimizer: Any, start: int = 0, stop: int = 6
) -> list[dict[str, Tensor]]:
    """Train from a step to another one, averaging; return the weights after each."""
    examples, history = random_examples(seed), list[dict[str, Tensor]]()
    loss = CrossEntropy().bind(examples.targets, ["0", "1", "2"])
    for step in fit(model, examples, loss, optimizer, plan(), Accelerator(cpu=True), start):
        averages.update(model)
        history.append(_copy(model))
        if step.number == stop:
            break
    return history


def _optimizer(model: nn.Module) -> Any:
    return build_optimizer(model, Full().parameter_groups(model), 1e-2, 0.01)


@pytest.mark.parametrize("decay", [0.0, DECAY, 0.999])
@pytest.mark.parametrize("late", [False, True])
def test_it_is_the_average_of_the_formula(
    seed: int, decay: float, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed again in float64 from the weights after each step; late rows are seen as they should be."""
    if late:
        need_library()
        monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 1)
    model = network(seed)
    expected = {name: weight.double() for name, weight in named_weights(model).items()}
    averages = AveragedWeights(model, decay)
    for step, weights in enumerate(_train(model, seed, averages, _optimizer(model))):
        rate = min(decay, (1 + step) / (10 + step))
        expected = {name: rate * expected[name] + (1.0 - rate) * weights[name].double() for name in expected}
    with averages.swapped(model):
        found = _copy(model)
    for name, weight in found.items():
        assert torch.allclose(weight.double(), expected[name], rtol=1e-5, atol=1e-7), name


def test_weights_come_back_bit_for_bit(seed: int) -> None:
    """Also where the block fails, and where weights are narrower than the averages."""
    model = network(seed)
    averages = AveragedWeights(model, DECAY)
    _train(model, seed, averages, _optimizer(model))
    before = _copy(model)
    with pytest.raises(RuntimeError, match="evaluation"), averages.swapped(model):
        assert not torch.equal(model.get_parameter("classifier.weight"), before["classifier.weight"])
        raise RuntimeError("the evaluation failed")
    assert all(torch.equal(weight, before[name]) for name, weight in named_weights(model).items())
    narrow = network(seed).bfloat16()
    averages = AveragedWeights(narrow, DECAY)
    with torch.no_grad():
        narrow.get_parameter("classifier.weight").mul_(3.0)
    averages.update(narrow)
    before = _copy(narrow)
    assert averages.tensors()["weights/classifier.weight"].dtype == torch.float32
    with averages.swapped(narrow):
        assert narrow.get_parameter("classifier.weight").dtype == torch.bfloat16
    assert all(torch.equal(weight, before[name]) for name, weight in named_weights(narrow).items())


def test_training_does_not_notice(seed: int) -> None:
    """With averages, and evaluations on them between the steps, the weights are those of a run without."""
    model, other = network(seed, dropout=0.1), network(seed, dropout=0.1)
    averages = AveragedWeights(model, DECAY)
    examples = random_examples(seed)
    loss = CrossEntropy().bind(examples.targets, ["0", "1", "2"])
    for _ in fit(model, examples, loss, _optimizer(model), plan(), Accelerator(cpu=True)):
        averages.update(model)
        with averages.swapped(model):
            pass
    list(fit(other, examples, loss, _optimizer(other), plan(), Accelerator(cpu=True)))
    assert equal_bits(model, other)


@pytest.mark.parametrize("stop", [1, 4])
def test_resume_is_bitwise(seed: int, stop: int, tmp_path: Path) -> None:
    whole, first, second = network(seed), network(seed), network(seed + 1)
    averages = [AveragedWeights(model, DECAY) for model in (whole, first, second)]
    optimizers = [_optimizer(model) for model in (whole, first, second)]
    _train(whole, seed, averages[0], optimizers[0])
    _train(first, seed, averages[1], optimizers[1], stop=stop)
    save_checkpoint(tmp_path, stop, first, optimizers[1], None, {}, averages[1].tensors())
    found = newest_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    found.restore(second, optimizers[2])
    averages[2].restore(found.averaged())
    _train(second, seed, averages[2], optimizers[2], start=stop)
    assert equal_bits(whole, second)
    ours, theirs = averages[2].tensors(), averages[0].tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_a_checkpoint_does_not_hold_is_told(seed: int, tmp_path: Path) -> None:
    model = network(seed)
    save_checkpoint(tmp_path, 1, model, _optimizer(model), None, {})
    found = newest_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    with pytest.raises(RunError, match="no averaged weights"):
        found.averaged()
    kept = AveragedWeights(model, DECAY).tensors()
    other = network(seed)
    build_optimizer(other, HeadOnly().parameter_groups(other), 1e-3, 0.0)  # pyright: ignore
    with pytest.raises(RunError, match="other weights"):
        AveragedWeights(other, DECAY).restore(kept)
    with pytest.raises(ValueError, match="decay"):
        AveragedWeights(model, 1.0)


def test_what_is_frozen_is_not_kept_twice(seed: int) -> None:
    model = network(seed)
    build_optimizer(model, HeadOnly().parameter_groups(model), 1e-3, 0.0)  # pyright: ignore
    moving = {f"weights/{name}" for name, each in model.named_parameters() if each.requires_grad}
    assert set(AveragedWeights(model, DECAY).tensors()) == {"updates", *moving}
    assert "weights/classifier.weight" in moving
