"""What tests of the compiled optimiser need."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftlm.kernels.library import Library, load, missing_reason
from graftlm.strategies.full import Full
from graftlm.training.adamw import KernelAdamW
from graftlm.training.lazy_rows import lazy_embedding


def need_library() -> Library:
    """Return the kernels, or skip the test and say why."""
    if (found := load()) is None:
        pytest.skip(f"no compiled kernels: {missing_reason()}")
    return found


def optimizer_of(model: nn.Module, late: bool, decay: float = 0.1, rate: float = 1e-3) -> KernelAdamW:
    """The compiled optimiser over a whole model, with late rows or without."""
    parameters = dict(model.named_parameters())
    groups = [
        {
            "params": [parameters[name] for name in group.names], "lr": rate, "peak": rate,
            "weight_decay": decay if group.decayed else 0.0,
        }
        for group in Full().parameter_groups(model)
    ]  # fmt: skip
    embedding = lazy_embedding(model) if late else None
    assert not isinstance(embedding, str), embedding
    return KernelAdamW(groups, need_library(), embedding=embedding)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Unlike `torch.equal`, which takes -0 for 0."""
    return torch.equal(one.detach().view(torch.int32), other.detach().view(torch.int32))


def assert_same(
    model: nn.Module, optimizer: KernelAdamW, other: nn.Module, other_optimizer: KernelAdamW
) -> None:
    """Weights and optimiser state agree bit for bit."""
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert same_bits(one, two), name
        states = optimizer.state[one], other_optimizer.state[two]
        assert states[0].keys() == states[1].keys()
        assert all(same_bits(states[0][key], states[1][key]) for key in states[0]), name
