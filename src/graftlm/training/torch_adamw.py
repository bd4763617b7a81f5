"""AdamW as torch computes it, where our kernels do not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import AdamW


class TorchAdamW(AdamW):
    """AdamW of torch, for every device and without the compiled kernels; answers
    `graftlm.training.optimisation.Stepping`."""

    found_inf: Tensor | None = None
    """What torch calls it: 1 on the device where no weight is to move, read by the fused kernels alone."""

    def attached(self) -> AbstractContextManager[None]:
        """Nothing is ever late here."""
        self.found_inf = None
        return nullcontext()

    def flush(self) -> None:
        """Nothing is ever late here."""

    def gradient_norm(self) -> float:
        """Return the global L2 norm of the gradients, which are left alone."""
        return float(self._norm())

    def clip_and_step(self, norm: float, limit: float | None) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))`` and take a step; None does not scale."""
        if limit is not None:
            self.clip(norm, limit)
        self.step()

    def step_if_finite(self, loss: Tensor, limit: float | None) -> Tensor:
        """Do what `clip_and_step` does, without waiting for the device; it decides itself whether there is a step.

        Where loss or norm are not finite, weights and moments stay as they are, and so they do in all steps that
        follow, until the loop has noticed: a later step would begin from weights that nobody should have.

        Args:
            loss: of the step, a scalar on the device.
            limit: of the norm, or None.

        Returns:
            Loss and norm, float64 [2] on the device.
        """
        norm = self._norm()
        numbers = torch.stack([loss.double(), norm.double()])
        spoilt = 1.0 - numbers.isfinite().all().float()
        self.found_inf = spoilt if self.found_inf is None else torch.maximum(self.found_inf, spoilt)
        if limit is not None:
            nn.utils.clip_grads_with_norm_(self._parameters(), limit, norm)
        self.step()
        return numbers

    def clip(self, norm: float, limit: float) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))``."""
        nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.tensor(norm))

    def _norm(self) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in self._parameters() if p.grad is not None])

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]
