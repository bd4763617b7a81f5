"""Cross-entropy of K independent yes-or-no decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from graftlm.config import Config
from graftlm.data.features import Targets
from graftlm.kernels.sending import OnDevices
from graftlm.objectives._objective import Term


@dataclass(frozen=True)
class WeightedBinaryCrossEntropy:
    """Binary cross-entropy with fixed weights of the positive cases.

    Args:
        positive_weights: one positive number per label [labels], or None for 1 each.
    """

    positive_weights: Tensor | None

    @cached_property
    def _sent(self) -> OnDevices | None:
        return None if self.positive_weights is None else OnDevices(self.positive_weights)

    def weights(self, targets: Tensor) -> dict[str, float]:
        """Return the divisor: the number of decisions in the targets [items, labels]."""
        return {"binary_cross_entropy": float(targets.numel())}

    def terms(self, outputs: Tensor, targets: Tensor) -> list[Term]:
        """Return the summed loss of logits [items, labels] against targets [items, labels] of 0 and 1."""
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        weights = None if self._sent is None else self._sent.on(logits.device)
        total = functional.binary_cross_entropy_with_logits(
            logits,
            targets.to(logits),
            pos_weight=None if weights is None else weights.to(logits.dtype),
            reduction="sum",
        )
        return [Term("binary_cross_entropy", total)]


class BinaryCrossEntropy(Config):
    """Mean over rows and labels of ``-(p y log s(x) + (1 - y) log(1 - s(x)))`` with s the logistic function.

    The weight p of the positive cases is 1 unless ``positive_weights`` says otherwise; as in
    ``torch.nn.BCEWithLogitsLoss`` it changes the sum, not the divisor.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    kinds: ClassVar[tuple[str, ...]] = ("label_sets",)

    positive_weights: Literal["none", "balanced"] = "none"
    """none; or balanced: rows without the label / rows with it, so that both sides weigh the same."""

    def bind(self, targets: Targets, labels: Sequence[str]) -> WeightedBinaryCrossEntropy:
        """Compute the weights from the training targets [rows, labels]."""
        if self.positive_weights == "none":
            return WeightedBinaryCrossEntropy(None)
        assert isinstance(targets, np.ndarray)
        positive = targets.sum(axis=0)
        weights = (len(targets) - positive) / np.maximum(positive, 1.0)
        # A label that every row has leaves nothing on the other side: it keeps its weight.
        weights[weights == 0] = 1.0
        return WeightedBinaryCrossEntropy(torch.tensor(weights, dtype=torch.float32))
