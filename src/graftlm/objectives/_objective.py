"""What every objective answers: named terms, each a sum and the weight it will be divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from graftlm.data.features import Targets


@dataclass(frozen=True)
class Term:
    """One named part of the loss of a micro-batch.

    The loop computes ``coefficient * sum over micro-batches and ranks of total / sum of weight``: each term is
    divided once, by the weight of the whole step, so the split into micro-batches changes nothing.

    Args:
        name: unique within the objective.
        total: scalar tensor, the sum (not the mean) over the items of this micro-batch.
        coefficient: how much this term counts.
    """

    name: str
    total: Tensor
    coefficient: float = 1.0


class Loss(Protocol):
    """An objective bound to one run.

    Outputs and targets are tensors, or several by name, as the forward pass of the run gives them.
    """

    def weights(self, targets: Any) -> dict[str, float]:
        """Return term name -> weight of these targets (on the CPU), known before any forward pass.

        A weight may be 0 where there is nothing to learn from; its term then counts nothing.
        """
        ...

    def terms(self, outputs: Any, targets: Any) -> list[Term]:
        """Return the terms of one micro-batch from the model's outputs, computed in float32 or finer."""
        ...


class Objective(Protocol):
    """What is minimised. One file per objective; the file name is the name in a recipe."""

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    """The kinds of answers it can train, see `graftlm.tasks._task.Task`."""

    def bind(self, targets: Targets, labels: Sequence[str]) -> Loss:
        """Fix what depends on the training data, such as balanced class weights.

        Args:
            targets: those of all training examples.
            labels: label names in the order of the logits.
        """
        ...
