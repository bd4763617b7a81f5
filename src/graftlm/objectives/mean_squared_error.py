"""Mean squared error of one number a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from graftlm.config import Config
from graftlm.data.features import Targets
from graftlm.objectives._objective import Term


class SquaredError:
    """The squared distance of outputs and targets."""

    def weights(self, targets: Tensor) -> dict[str, float]:
        """Return the divisor: the number of targets [items]."""
        return {"squared_error": float(targets.numel())}

    def terms(self, outputs: Tensor, targets: Tensor) -> list[Term]:
        """Return the summed squared error of outputs [items, 1] against targets [items]."""
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return [Term("squared_error", (outputs.squeeze(-1) - targets.to(outputs)).square().sum())]


class MeanSquaredError(Config):
    """``mean_i (output_i - y_i)^2``, with y in the units that the task trains in (standard deviations)."""

    name: ClassVar[str] = "mean_squared_error"
    kinds: ClassVar[tuple[str, ...]] = ("numbers",)

    def bind(self, targets: Targets, labels: Sequence[str]) -> SquaredError:
        """Nothing depends on the training data."""
        return SquaredError()
