"""What every strategy answers: which weights move, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn
from transformers import PreTrainedModel


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
    learning_rate: ClassVar[float]
    """Peak learning rate where the recipe names none."""

    def adapt(self, model: PreTrainedModel, new: Sequence[str], seed: int) -> None:
        """Add to the network what is to be trained, in place; its outputs stay what they were, bit for bit.

        Args:
            model: with its head.
            new: names of the parameters that were drawn from the seed, not read from the base model.
            seed: of the run.
        """
        ...

    def parameter_groups(self, model: PreTrainedModel) -> list[ParameterGroup]:
        """Return every parameter that moves, each in exactly one group; all others are frozen."""
        ...


def by_decay(model: nn.Module, names: Sequence[str]) -> list[ParameterGroup]:
    """Return the named parameters at full speed in at most two groups: matrices decay, biases and norms do not."""
    parameters = dict(model.named_parameters())
    groups = {
        decayed: [name for name in names if (parameters[name].ndim >= 2) == decayed]
        for decayed in (False, True)
    }
    return [ParameterGroup(tuple(group), 1.0, decayed) for decayed, group in groups.items() if group]
