"""The activation of BERT and its successors by the compiled kernel."""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from graftlm.kernels.library import Library, load

_ARGUMENTS = (c_void_p, c_void_p, c_void_p, c_int64)


def gelu(x: Tensor) -> Tensor:
    """Return ``x * P(N < x)`` with N normally distributed (Hendrycks & Gimpel 2016), exact, not by tanh.

    float32 on the CPU is computed by the compiled kernel where there is one, with an error of at most 4e-7 ``|x|``, all
    else by torch. The kernel keeps the slope for the way back instead of ``x``.

    Args:
        x: of any shape.

    Returns:
        As ``x``. By the kernel it can be differentiated once.
    """
    library = load() if x.dtype == torch.float32 and x.device.type == "cpu" else None
    return functional.gelu(x) if library is None else _KernelGelu.apply(library, x)


class _KernelGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Library, x: Tensor) -> Tensor:
        x = x.contiguous()
        output = torch.empty_like(x)
        slope = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        library.kernel("graft_gelu", _ARGUMENTS)(
            x.data_ptr(), output.data_ptr(), None if slope is None else slope.data_ptr(), x.numel()
        )
        ctx.save_for_backward(slope)
        return output

    @staticmethod
    @once_differentiable  # of which the type checker only sees that it forgets the names of parameters
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[None, Tensor]:
        (slope,) = ctx.saved_tensors
        return None, gradients[0] * slope
