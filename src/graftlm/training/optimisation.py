"""AdamW, parameter groups, the learning rate of every step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from graftlm.kernels.adamw import suits
from graftlm.kernels.library import load
from graftlm.training.adamw import KernelAdamW
from graftlm.training.lazy_rows import lazy_embedding


class Stepping(Protocol):
    """What the loop and checkpoints ask of an optimiser; groups and state are as in `torch.optim.AdamW`."""

    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

    def attached(self) -> AbstractContextManager[None]:
        """Within, weights of the model may be late. They are not for whoever runs it or takes its state dict."""
        ...

    def flush(self) -> None:
        """Bring late weights and moments up to date: for whoever reads them otherwise."""
        ...

    def gradient_norm(self) -> float:
        """Return the global L2 norm of the gradients, which are left alone."""
        ...

    def clip_and_step(self, norm: float, limit: float | None) -> None:
        """Move the weights by the gradients times ``min(1, limit / (norm + 1e-6))``; None does not clip."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        ...


class TorchAdamW(AdamW):
    """AdamW of torch, for every device and without the compiled kernels; answers `Stepping`."""

    def attached(self) -> AbstractContextManager[None]:
        """Nothing is ever late here."""
        return nullcontext()

    def flush(self) -> None:
        """Nothing is ever late here."""

    def gradient_norm(self) -> float:
        """Return the global L2 norm of the gradients, which are left alone."""
        return float(nn.utils.get_total_norm([p.grad for p in self._parameters() if p.grad is not None]))

    def clip_and_step(self, norm: float, limit: float | None) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))`` and take a step; None does not scale."""
        if limit is not None:
            self.clip(norm, limit)
        self.step()

    def clip(self, norm: float, limit: float) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))``."""
        nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.tensor(norm))

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class Group(Protocol):
    """Parameters that share a speed (see the strategies)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names as the model gives them."""
        ...

    @property
    def learning_rate_scale(self) -> float:
        """Factor on the run's learning rate."""
        ...

    @property
    def decayed(self) -> bool:
        """Whether weight decay applies."""
        ...


def build_optimizer(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> KernelAdamW | TorchAdamW:
    """Return bias-corrected AdamW over the groups; parameters in no group are frozen (no gradient).

    On the CPU it is ours where the compiled kernels are there. Bias correction is what keeps small data sets from
    diverging (Mosbach et al. 2021).
    """
    parameters = dict(model.named_parameters())
    moving = {name for group in groups for name in group.names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in moving)
    settings = [
        {
            "params": [parameters[name] for name in group.names],
            "lr": learning_rate * group.learning_rate_scale,
            "peak": learning_rate * group.learning_rate_scale,
            "weight_decay": weight_decay if group.decayed else 0.0,
        }
        for group in groups
    ]
    library = load()
    if library is not None and all(suits(parameters[name]) for name in moving):
        embedding = lazy_embedding(model)
        return KernelAdamW(
            settings, library, betas, epsilon, None if isinstance(embedding, str) else embedding
        )
    device = next(model.parameters()).device
    return TorchAdamW(settings, betas=betas, eps=epsilon, fused=device.type in ("cpu", "cuda"))


def learning_rate_factor(step: int, total_steps: int, warmup_share: float, schedule: str) -> float:
    """Return the factor on the peak learning rate for a 0-based step.

    Linear from 0 over ``ceil(warmup_share * total_steps)`` steps, then linear to 0, half a cosine to 0, or constant.
    """
    # At least one step must move something: a run of a single step has no warm-up.
    warmup = min(math.ceil(warmup_share * total_steps), total_steps - 1)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - progress)
    if schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return 1.0


def set_learning_rate(optimizer: Stepping, factor: float) -> float:
    """Set every group to its peak times ``factor``; return the largest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(group["lr"] for group in optimizer.param_groups)
