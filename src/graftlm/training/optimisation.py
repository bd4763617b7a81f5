"""AdamW, parameter groups, the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from torch import nn
from torch.optim import AdamW


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
    model: nn.Module, groups: Sequence[Group], learning_rate: float, weight_decay: float
) -> AdamW:
    """Return bias-corrected AdamW over the groups; parameters in no group are frozen (no gradient).

    Bias correction is what keeps small data sets from diverging (Mosbach et al. 2021).
    """
    parameters = dict(model.named_parameters())
    moving = {name for group in groups for name in group.names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in moving)
    device = next(model.parameters()).device
    return AdamW(
        [
            {
                "params": [parameters[name] for name in group.names],
                "lr": learning_rate * group.learning_rate_scale,
                "peak": learning_rate * group.learning_rate_scale,
                "weight_decay": weight_decay if group.decayed else 0.0,
            }
            for group in groups
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=device.type in ("cpu", "cuda"),
    )


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


def set_learning_rate(optimizer: AdamW, factor: float) -> float:
    """Set every group to its peak times ``factor``; return the largest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(group["lr"] for group in optimizer.param_groups)
