"""What every objective answers: named terms, each a sum and the weight it will be divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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
    """An objective bound to the labels of one run."""

    def weights(self, targets: Tensor) -> dict[str, float]:
        """Return term name -> weight of these items, known before any forward pass."""
        ...

    def terms(self, logits: Tensor, targets: Tensor) -> list[Term]:
        """Return the terms of one micro-batch from the model's outputs."""
        ...


class Objective(Protocol):
    """What is minimised. One file per objective; the file name is the name in a recipe."""

    name: ClassVar[str]

    def bind(self, targets: NDArray[np.int64], labels: Sequence[str]) -> Loss:
        """Fix what depends on the training data, such as balanced class weights.

        Args:
            targets: label positions of all training rows, [rows].
            labels: label names in the order of the logits.
        """
        ...
