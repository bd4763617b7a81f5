"""AdamW as torch computes it, where our kernels do not."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor
from torch.optim import AdamW

from graftlm.training.never_late import NeverLate


class TorchAdamW(NeverLate, AdamW):
    """AdamW of torch, for every device and without the compiled kernels."""

    found_inf: Tensor | None = None
    """What torch calls it: 1 on the device where no weight is to move, read by the fused kernels alone."""

    def attached(self) -> AbstractContextManager[None]:
        """Nothing is ever late here; weights may move again."""
        self.found_inf = None
        return super().attached()

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
            self.clip(norm, limit)
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
