"""AdamW as torch computes it, where our kernels do not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.optim import AdamW


class TorchAdamW(AdamW):
    """AdamW of torch, for every device and without the compiled kernels; answers
    `graftlm.training.optimisation.Stepping`."""

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
            self.clip(norm, limit)
        self.step()

    def clip(self, norm: float, limit: float) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))``."""
        nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.tensor(norm))

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]
