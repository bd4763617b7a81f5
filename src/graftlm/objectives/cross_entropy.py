"""Cross-entropy over K classes, with class weights and label smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional

from graftlm.config import Config
from graftlm.data.features import IGNORED, Targets
from graftlm.errors import ConfigurationError, nearest
from graftlm.kernels.sending import OnDevices
from graftlm.objectives._objective import Term


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Cross-entropy with fixed class weights.

    Args:
        class_weights: one positive weight per class, [classes], or None for 1 each.
        label_smoothing: share of the target spread evenly over all classes.
    """

    class_weights: Tensor | None
    label_smoothing: float

    @cached_property
    def _sent(self) -> OnDevices | None:
        return None if self.class_weights is None else OnDevices(self.class_weights)

    def weights(self, targets: Tensor) -> dict[str, float]:
        """Return the divisor: the summed class weights of the targets [...] (their number without weights)."""
        targets = targets[targets != IGNORED]
        if self.class_weights is None:
            return {"cross_entropy": float(targets.numel())}
        return {"cross_entropy": float(self.class_weights[targets.cpu()].double().sum())}

    def terms(self, outputs: Tensor, targets: Tensor) -> list[Term]:
        """Return the summed loss of logits [..., classes] against targets [...]; ignored ones add nothing."""
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        weights = None if self._sent is None else self._sent.on(logits.device)
        total = functional.cross_entropy(
            logits.flatten(0, -2),
            targets.flatten(),
            ignore_index=IGNORED,
            weight=None if weights is None else weights.to(logits.dtype),
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return [Term("cross_entropy", total)]


class CrossEntropy(Config):
    """``sum_i w[y_i] * -log softmax(logits_i)[y_i] / sum_i w[y_i]``.

    With smoothing e the target is (1 - e) on the label and e / K on each of the K classes (Szegedy et al. 2016),
    weighted as ``torch.nn.CrossEntropyLoss`` does.
    """

    name: ClassVar[str] = "cross_entropy"
    kinds: ClassVar[tuple[str, ...]] = ("labels", "tags", "spans", "texts", "replies")

    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = "none"
    """none; balanced (items / (labels * items of the label)); or a mapping of label name to weight."""

    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each target spread evenly over all labels."""

    def bind(self, targets: Targets, labels: Sequence[str]) -> WeightedCrossEntropy:
        """Compute the class weights from the training targets, one per row or one per token."""
        if self.class_weights != "none" and not labels:
            raise ConfigurationError(
                "this task writes texts and has no labels that could be weighted",
                where="objective.class_weights",
                fix="leave it out",
            )
        if self.class_weights == "none":
            return WeightedCrossEntropy(None, self.label_smoothing)
        if self.class_weights == "balanced":
            known = targets if isinstance(targets, np.ndarray) else np.concatenate(targets)
            counts = np.bincount(known[known != IGNORED].astype(np.int64), minlength=len(labels))
            # A class of which train has no example gets no weight; nothing divides by it.
            weights = np.divide(
                counts.sum(), len(labels) * counts, out=np.zeros(len(labels)), where=counts > 0
            )
        else:
            weights = self._named_weights(labels)
        return WeightedCrossEntropy(torch.tensor(weights, dtype=torch.float32), self.label_smoothing)

    def _named_weights(self, labels: Sequence[str]) -> list[float]:
        assert isinstance(self.class_weights, dict)
        unknown = [name for name in self.class_weights if name not in labels]
        missing = [name for name in labels if name not in self.class_weights]
        if unknown or missing:
            hint = nearest(unknown[0], labels) if unknown else ""
            raise ConfigurationError(
                f"weights are needed for exactly the labels {', '.join(labels)}; "
                f"unknown: {unknown or 'none'}, missing: {missing or 'none'}.{hint}",
                where="objective.class_weights",
            )
        return [self.class_weights[name] for name in labels]
