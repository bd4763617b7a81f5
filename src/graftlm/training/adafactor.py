"""Adafactor as torch computes it: rates are relative to the size of the weights.

Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018. T5 was pretrained with it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.optim import Adafactor


class TorchAdafactor(Adafactor):
    """``w -= min(rate, 1 / sqrt(step)) * max(0.001, rms(w)) * u + rate * decay * w``.

    u is the gradient divided by the root of its mean square, of which those of rows and columns alone are kept, and
    scaled down where its own root mean square is above 1. Answers `graftlm.training.optimisation.Stepping`.
    """

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
            nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.tensor(norm))
        self.step()

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]
