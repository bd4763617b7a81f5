"""Muon for the matrices inside a network, AdamW for all else, as one optimiser.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of a step as in Liu et al.,
"Muon is Scalable for LLM Training", 2025, so that learning rate and decay are those of AdamW. It is `torch.optim.Muon`
with ``adjust_lr_fn="match_rms_adamw"``, but on the CPU in float32: its bfloat16 takes twenty times as long and more on
processors that have no units for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from graftlm.training.adamw import KernelAdamW
from graftlm.training.torch_adamw import TorchAdamW

MOMENTUM = 0.95
# The polynomial a X + b (X X') X + c (X X')^2 X, of which five turns bring singular values to about 0.7 to 1.1.
_COEFFICIENTS, _TURNS = (3.4445, -4.7750, 2.0315), 5
_SMALLEST_NORM = 1e-7
# The root mean square of a step of AdamW, in learning rates.
_USUAL_STEP = 0.2


class MuonWithAdamW:
    """Muon over hidden matrices and AdamW over other parameters; answers `graftlm.training.optimisation.Stepping`.

    Args:
        hidden: groups of matrices as for `torch.optim.Muon`.
        adamw: over groups of other parameters. Its state becomes that of both.
    """

    def __init__(self, hidden: Sequence[dict[str, Any]], adamw: KernelAdamW | TorchAdamW) -> None:
        self._hidden, self._adamw = hidden, adamw
        self.param_groups = [*hidden, *adamw.param_groups]
        self.state = adamw.state

    def attached(self) -> AbstractContextManager[None]:
        """Let rows of the embedding be late within, where AdamW can do that."""
        return self._adamw.attached()

    def flush(self) -> None:
        """Bring late rows up to date."""
        self._adamw.flush()

    def gradient_norm(self) -> float:
        """Return the global L2 norm of the gradients, which are left alone."""
        hidden = nn.utils.get_total_norm([gradient for _, _, gradient in self._with_gradient()])
        return math.hypot(float(hidden), self._adamw.gradient_norm())

    def clip_and_step(self, norm: float, limit: float | None) -> None:
        """Take one step with the gradients times ``min(1, limit / (norm + 1e-6))``; None does not clip."""
        scale = 1.0 if limit is None else min(1.0, limit / (norm + 1e-6))
        for group, parameter, gradient in self._with_gradient():
            self._step(group, parameter, gradient * scale)
        self._adamw.clip_and_step(norm, limit)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for _, parameter, gradient in self._with_gradient():
            parameter.grad = None if set_to_none else gradient.detach().zero_()
        self._adamw.zero_grad(set_to_none)

    @torch.no_grad()
    def _step(self, group: dict[str, Any], parameter: nn.Parameter, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1.0 - MOMENTUM)
        update = orthogonalised(gradient.lerp(momentum, MOMENTUM))
        rate: float = group["lr"]
        parameter.mul_(1.0 - rate * group["weight_decay"])
        parameter.add_(update, alpha=-rate * _USUAL_STEP * math.sqrt(max(parameter.shape)))

    def _with_gradient(self) -> list[tuple[dict[str, Any], nn.Parameter, Tensor]]:
        return [
            (group, parameter, parameter.grad)
            for group in self._hidden
            for parameter in group["params"]
            if parameter.grad is not None
        ]


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix with orthonormal rows or columns, whichever are fewer: all it does is turn.

    By the iteration of Newton and Schulz, in float32 on the CPU and in bfloat16 elsewhere. Singular values come near
    one, and need not come closer.

    Args:
        matrix: [rows, columns].
    """
    result = matrix.float() if matrix.device.type == "cpu" else matrix.bfloat16()
    tall = len(matrix) > matrix.shape[1]
    if tall:
        result = result.T
    a, b, c = _COEFFICIENTS
    result = result / result.norm().clamp(min=_SMALLEST_NORM)
    for _ in range(_TURNS):
        gram = result @ result.T
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
    return result.T if tall else result
