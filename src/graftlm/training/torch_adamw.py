"""AdamW as torch computes it, where our kernels do not."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
        if self.found_inf is None:
            self.found_inf = torch.zeros_like(spoilt)
        torch.maximum(self.found_inf, spoilt, out=self.found_inf)
        if limit is not None:
            nn.utils.clip_grads_with_norm_(self._parameters(), limit, norm)
        self.step()
        return numbers

    @contextmanager
    def recordable(self, rates: Sequence[Tensor]) -> Generator[None]:
        """Let a step, inside the block, be one that a CUDA graph may record.

        Args:
            rates: of the groups, scalars on the device, where each replay of the step will read them.
        """
        before = [group["lr"] for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for group, rate in zip(self.param_groups, before, strict=True):
                group["lr"], group["capturable"] = rate, False

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Let steps inside the block move nothing; there must have been one before."""
        assert self.found_inf is not None
        before = self.found_inf.clone()
        self.found_inf.fill_(1.0)
        try:
            yield
        finally:
            self.found_inf.copy_(before)

    def clip(self, norm: float, limit: float) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))``."""
        nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.tensor(norm))

    def _norm(self) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in self._parameters() if p.grad is not None])

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]
