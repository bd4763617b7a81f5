"""Optimisers over parameter groups, the learning rate of every step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, overload

from torch import Tensor, nn

from graftlm.errors import ConfigurationError
from graftlm.kernels.adamw import suits
from graftlm.kernels.library import load
from graftlm.models.hidden_matrices import hidden_matrices
from graftlm.training.adafactor import TorchAdafactor
from graftlm.training.adamw import KernelAdamW
from graftlm.training.lazy_rows import lazy_embedding
from graftlm.training.muon import MuonWithAdamW
from graftlm.training.torch_adamw import TorchAdamW

DECAY_SHARE = 0.2
"""Of all steps, over which a trapezoid falls."""


OptimizerName = Literal["adamw", "muon", "adafactor"]


class Stepping(Protocol):
    """What the loop and checkpoints ask of an optimiser; groups and state are as in `torch.optim`."""

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


@overload
def build_optimizer(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = ...,
    epsilon: float = ...,
    optimizer: Literal["adamw"] = ...,
) -> KernelAdamW | TorchAdamW: ...
@overload
def build_optimizer(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = ...,
    epsilon: float = ...,
    *,
    optimizer: Literal["muon"],
) -> MuonWithAdamW: ...
@overload
def build_optimizer(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rate: float,
    weight_decay: float,
    *,
    optimizer: Literal["adafactor"],
) -> TorchAdafactor: ...
def build_optimizer(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    optimizer: OptimizerName = "adamw",
) -> KernelAdamW | TorchAdamW | MuonWithAdamW | TorchAdafactor:
    """Return an optimiser over the groups; parameters in no group are frozen (no gradient).

    AdamW is bias-corrected, which keeps small data sets from diverging (Mosbach et al. 2021); on the CPU it is ours
    where the compiled kernels are there. Muon moves the hidden matrices of the groups, and AdamW the rest of them.
    Adafactor has neither betas nor epsilon of ours.

    Raises:
        ConfigurationError: Muon, and no hidden matrix is in a group.
    """
    parameters = dict(model.named_parameters())
    moving = {name for group in groups for name in group.names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in moving)
    hidden = moving & set(hidden_matrices(model)) if optimizer == "muon" else set[str]()
    if optimizer == "muon" and not hidden:
        raise ConfigurationError(
            "Muon moves the matrices in the layers of a network, and none of them is trained here",
            where="training.optimizer",
            fix="choose adamw, or another strategy",
        )

    def settings(names: set[str]) -> list[dict[str, Any]]:
        return [
            {
                "params": [parameters[name] for name in group.names if name in names],
                "lr": learning_rate * group.learning_rate_scale,
                "peak": learning_rate * group.learning_rate_scale,
                "weight_decay": weight_decay if group.decayed else 0.0,
            }
            for group in groups
            if names.intersection(group.names)
        ]

    if optimizer == "adafactor":
        return TorchAdafactor(settings(moving))
    adamw = _adamw(model, settings(moving - hidden), betas, epsilon)
    return MuonWithAdamW(settings(hidden), adamw) if hidden else adamw


def _adamw(
    model: nn.Module, settings: list[dict[str, Any]], betas: tuple[float, float], epsilon: float
) -> KernelAdamW | TorchAdamW:
    library = load()
    if library is not None and all(suits(parameter) for group in settings for parameter in group["params"]):
        embedding = lazy_embedding(model)
        return KernelAdamW(
            settings, library, betas, epsilon, None if isinstance(embedding, str) else embedding
        )
    device = next(model.parameters()).device
    return TorchAdamW(settings, betas=betas, eps=epsilon, fused=device.type in ("cpu", "cuda"))


def learning_rate_factor(
    step: int, total_steps: int, warmup_share: float, schedule: str, decay_share: float = DECAY_SHARE
) -> float:
    """Return the factor on the peak learning rate for a 0-based step.

    Linear from 0 over ``ceil(warmup_share * total_steps)`` steps, then linear to 0, half a cosine to 0, constant, or a
    trapezoid: constant, and linear to 0 over the last ``ceil(decay_share * total_steps)`` (Hägele et al. 2024).
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
    if schedule == "trapezoid" and decay_share:
        return min(1.0, (total_steps - step) / math.ceil(decay_share * total_steps))
    return 1.0


def set_learning_rate(optimizer: Stepping, factor: float) -> float:
    """Set every group to its peak times ``factor``; return the largest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(group["lr"] for group in optimizer.param_groups)
