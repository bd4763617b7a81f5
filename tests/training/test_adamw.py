"""The optimiser on compiled kernels, beside torch's: same numbers, same state, same clipping."""

from __future__ import annotations

import math

import pytest
import torch
from tests.training.compiled import need_library, optimizer_of, same_bits
from tests.training.networks import distance, network, plan, random_examples, train
from torch import nn

from graftlm.strategies.full import Full
from graftlm.training import lazy_rows
from graftlm.training.adamw import KernelAdamW
from graftlm.training.optimisation import Stepping, TorchAdamW, build_optimizer


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the tiny vocabulary may be late."""
    need_library()
    monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 1)


def _build(model: nn.Module) -> KernelAdamW | TorchAdamW:
    return build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.1)


@pytest.mark.parametrize("limit", [None, 1e-2, 1.0])
def test_a_training_has_the_numbers_of_torch(
    seed: int, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses to 1e-6 and norms to 1e-5 relative over 30 steps; both answer the same protocol."""
    examples, steps = random_examples(seed), plan(total_steps=30, max_gradient_norm=limit)
    models = network(seed), network(seed)
    optimizers: list[Stepping] = [_build(models[0])]
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    optimizers.append(_build(models[1]))
    assert [type(each) for each in optimizers] == [KernelAdamW, TorchAdamW]
    runs = [
        train(model, examples, steps, optimizer=optimizer)
        for model, optimizer in zip(models, optimizers, strict=True)
    ]
    for ours, stock in zip(*runs, strict=True):
        assert ours.loss == pytest.approx(stock.loss, rel=1e-6)
        assert ours.gradient_norm == pytest.approx(stock.gradient_norm, rel=1e-5)
    assert distance(*models) < 1e-5


def test_other_types_are_left_to_torch(seed: int) -> None:
    assert isinstance(_build(network(seed).double()), TorchAdamW)


def _filled(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random) * scale


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e4])
def test_clipping_is_that_of_torch(seed: int, scale: float) -> None:
    """Gradients are not touched; the norm and what comes of the step agree with `clip_grad_norm_` before it."""
    ours, theirs = network(seed), network(seed)
    for model in (ours, theirs):
        _filled(model, seed, scale)
    optimizer = optimizer_of(ours, late=False, rate=1e-2)
    stock = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    before = [parameter.grad.clone() for parameter in ours.parameters()]
    norm = optimizer.gradient_norm()
    expected = float(nn.utils.clip_grad_norm_(theirs.parameters(), 1.0))
    assert norm == pytest.approx(expected, rel=1e-6)
    optimizer.clip_and_step(norm, 1.0)
    stock.step()
    assert all(same_bits(one, p.grad) for one, p in zip(before, ours.parameters(), strict=True))
    assert distance(ours, theirs) < 1e-6
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        moments = optimizer.state[one]["exp_avg"], stock.state[other]["exp_avg"]
        assert float((moments[0] - moments[1]).norm() / moments[1].norm()) < 1e-5


@pytest.mark.parametrize(("value", "norm"), [(1e20, math.inf), (math.nan, math.nan), (1e18, 1e18)])
def test_a_norm_whose_square_float32_does_not_hold_is_infinite(seed: int, value: float, norm: float) -> None:
    model = network(seed)
    next(iter(model.parameters())).grad = torch.zeros(60, 32).index_fill(0, torch.tensor(3), value)
    found = optimizer_of(model, late=False).gradient_norm()
    assert found == pytest.approx(norm * math.sqrt(32) if math.isfinite(norm) else norm, nan_ok=True)


def test_state_goes_to_torch_and_comes_back(seed: int) -> None:
    """Three steps here, three there, three here: as nine of torch's."""
    models = [network(seed) for _ in range(2)]
    ours = optimizer_of(models[0], late=True)
    stock = torch.optim.AdamW(
        [{key: group[key] for key in ("lr", "weight_decay")} | {"params": other["params"]}
         for group, other in zip(ours.param_groups, optimizer_of(models[1], late=False).param_groups, strict=True)]
    )  # fmt: skip
    visitor = torch.optim.AdamW([{"params": group["params"]} for group in ours.param_groups], lr=1.0)
    for step in range(9):
        for model in models:
            _filled(model, seed + step)
        if step == 3:
            visitor.load_state_dict(ours.state_dict())
        if step == 6:
            again = optimizer_of(models[0], late=False, decay=0.5, rate=0.5)
            again.load_state_dict(visitor.state_dict())
            assert all(
                same_bits(visitor.state[parameter][key], again.state[parameter][key])
                for parameter in models[0].parameters()
                for key in ("step", "exp_avg", "exp_avg_sq")
            )
            ours = again
        (visitor if 3 <= step < 6 else ours).step()
        stock.step()
    assert [group["lr"] for group in ours.param_groups] == [1e-3, 1e-3]
    assert distance(*models) < 1e-6
    assert all(int(state["step"]) == 9 for state in ours.state.values())


def test_a_variant_is_refused(seed: int) -> None:
    model = network(seed)
    stock = torch.optim.AdamW(model.parameters(), amsgrad=True)
    with pytest.raises(ValueError, match="amsgrad"):
        KernelAdamW([{"params": list(model.parameters())}], need_library()).load_state_dict(
            stock.state_dict()
        )


def test_a_parameter_without_a_gradient_takes_no_step(seed: int) -> None:
    """As in torch: not even its decay."""
    model = network(seed)
    optimizer = optimizer_of(model, late=False)
    _filled(model, seed)
    still = model.classifier.weight
    still.grad = None
    before = still.detach().clone()
    optimizer.step()
    assert same_bits(before, still)
    assert not optimizer.state[still]


def test_a_closure_gives_the_loss(seed: int) -> None:
    model = network(seed)
    optimizer = optimizer_of(model, late=False)

    def closure() -> float:
        assert torch.is_grad_enabled()
        model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
        return 0.25

    before = model.classifier.bias.detach().clone()
    with torch.no_grad():
        assert optimizer.step(closure) == 0.25
    assert not same_bits(before, model.classifier.bias)


def test_a_sparse_gradient_from_elsewhere_is_refused(seed: int) -> None:
    model = network(seed)
    model.bert.embeddings.position_embeddings.sparse = True
    optimizer = optimizer_of(model, late=False)
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients"):
        optimizer.step()
