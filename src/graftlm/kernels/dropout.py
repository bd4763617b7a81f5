"""Dropout whose mask is a function of what it drops, not of how many numbers were drawn before."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_float, c_int64, c_uint32, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graftlm.kernels.library import load
from graftlm.kernels.masks import in_cache, kept_factor, kept_features, threshold

_ARGUMENTS = (c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_uint32, c_float)


def keyed_dropout(x: Tensor, bases: Tensor, probability: float) -> Tensor:
    """Drop numbers of ``x`` and scale the others by `kept_factor`, which is 1 / (1 - probability) but for rounding.

    float32 on the CPU is computed by the compiled kernel where there is one, on CUDA by one in Triton, all else in
    torch, with one mask.

    Args:
        x: floating point [..., features].
        bases: int32 [rows] on the device of ``x``, of `keys.site_bases`: one for each row of features.
        probability: of dropping, in [0, 1). With 0 the result is ``x`` itself.

    Returns:
        As ``x``. A NaN stays one, even where it is dropped. It can be differentiated once.

    Raises:
        ValueError: a probability out of its range, or bases that do not fit the rows.
    """
    threshold(probability)
    if not x.is_floating_point() or x.dim() == 0:
        raise ValueError(f"dropout needs floating point [..., features], not {x.dtype} {list(x.shape)}")
    rows = x.shape[:-1].numel()
    if bases.dtype != torch.int32 or bases.shape != (rows,) or bases.device != x.device:
        raise ValueError(
            f"dropout of {list(x.shape)} on {x.device} needs int32 bases [{rows}] there, "
            f"not {bases.dtype} {list(bases.shape)} on {bases.device}"
        )
    if probability == 0.0:
        return x
    return _KeyedDropout.apply(x, bases, probability)


class _KeyedDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bases: Tensor, probability: float) -> Tensor:
        ctx.probability = probability
        ctx.drop = _kernel_for(x)
        # A kernel decides again on the way back in no time; torch does not, so a byte for each number is remembered.
        if ctx.drop is None:
            bases = kept_features(bases, x.shape[-1], probability).view(x.shape)
        ctx.save_for_backward(bases)
        return (ctx.drop or _multiplied)(x, bases, probability)

    @staticmethod
    @once_differentiable  # of which the type checker only sees that it forgets the names of parameters
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None, None]:
        (decides,) = ctx.saved_tensors
        return (ctx.drop or _multiplied)(gradients[0], decides, ctx.probability), None, None


_Drop = Callable[[Tensor, Tensor, float], Tensor]
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def _kernel_for(x: Tensor) -> _Drop | None:
    """Return what drops in one go, deciding as it goes, if there is such a thing for this tensor."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and load() is not None:
        return _compiled
    if x.device.type != "cuda" or x.dtype not in _TYPES or x.numel() == 0:
        return None
    try:  # here, as it comes with the PyTorch of GPUs only
        from graftlm.kernels import dropout_triton
    except ImportError:
        return None
    return dropout_triton.drop if dropout_triton.proved(x.device, x.dtype) else None


def _compiled(x: Tensor, bases: Tensor, probability: float) -> Tensor:
    library = load()
    assert library is not None
    x, bases = x.contiguous(), bases.contiguous()
    output = torch.empty_like(x)
    library.kernel("graft_dropout", _ARGUMENTS)(
        *(x.data_ptr(), bases.data_ptr(), output.data_ptr(), len(bases), x.shape[-1]),
        *(threshold(probability), kept_factor(probability)),
    )
    return output


def _multiplied(x: Tensor, kept: Tensor, probability: float) -> Tensor:
    x, output = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    # As numbers, by which torch multiplies faster than by truth values. Not zeros put in: a NaN stays one.
    for given, numbers, dropped in zip(*map(in_cache, (x, kept.view(torch.int8), output)), strict=True):
        torch.mul(given, numbers, out=dropped).mul_(kept_factor(probability))
    return output
