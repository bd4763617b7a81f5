"""What optimisers of torch answer the loop with: no weight of theirs is ever late."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class NeverLate(Optimizer):
    """The answers of `graftlm.training.optimisation.Stepping`, before an optimiser of torch in a list of bases."""

    def attached(self) -> AbstractContextManager[None]:
        """Nothing is ever late here."""
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

    def clip(self, norm: float | Tensor, limit: float) -> None:
        """Scale the gradients by ``min(1, limit / (norm + 1e-6))``; a norm on the device is not waited for."""
        nn.utils.clip_grads_with_norm_(self._parameters(), limit, torch.as_tensor(norm))

    def _norm(self) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in self._parameters() if p.grad is not None])

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]
