"""What every strategy answers: which weights move, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a speed.

    Args:
        names: parameter names as ``model.named_parameters()`` gives them.
        learning_rate_scale: factor on the run's learning rate.
        decayed: whether weight decay applies.
    """

    names: tuple[str, ...]
    learning_rate_scale: float
    decayed: bool


class Strategy(Protocol):
    """Which weights move. One file per strategy; the file name is the name in a recipe."""

    name: ClassVar[str]

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return every parameter that moves, each in exactly one group; all others are frozen."""
        ...
