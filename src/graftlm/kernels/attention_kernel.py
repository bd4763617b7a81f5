"""Attention of variable length by the compiled kernel: float32 on the CPU."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int64, c_uint32, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graftlm.kernels.attention_torch import Pattern
from graftlm.kernels.library import Library
from graftlm.kernels.masks import kept_factor, threshold


class _Job(ctypes.Structure):
    """The same fields in the same order as struct job in source/attention.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("query", "key", "value")),
        *((f"{name}_{of}_stride", c_int64) for name in ("query", "key", "value") for of in ("token", "head")),
        *((name, c_void_p) for name in ("starts", "key_starts", "bases")),
        *((name, c_int64) for name in ("sequences", "heads", "key_heads", "width", "value_width")),
        *((name, c_int64) for name in ("window", "causal")),
        *(("scale", c_float), ("kept_factor", c_float), ("threshold", c_uint32)),
        *((name, c_void_p) for name in ("output", "log_sums", "output_gradient")),
        *((name, c_void_p) for name in ("query_gradient", "key_gradient", "value_gradient")),
    )


_ARGUMENTS = (ctypes.POINTER(_Job),)


def attention_by_kernel(
    library: Library,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    pattern: Pattern,
    bases: Tensor | None,
) -> Tensor:
    """Return what `variable_length_attention` returns; its arguments have been checked there.

    Tensors are float32 on the CPU with at least one head and one feature.
    """
    query, key, value = (t if t.stride(2) == 1 else t.contiguous() for t in (query, key, value))
    starts, key_starts = starts.contiguous(), key_starts.contiguous()
    return _KernelAttention.apply(library, query, key, value, starts, key_starts, pattern, bases)


class _KernelAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        key_starts: Tensor,
        pattern: Pattern,
        bases: Tensor | None,
    ) -> Tensor:
        """Attend, and keep the logarithms of the sums of exponentials instead of probabilities."""
        tokens, heads, _ = query.shape
        bases = None if bases is None or pattern.dropout == 0.0 else bases.contiguous()
        output = query.new_empty(tokens, heads, value.shape[2])
        log_sums = query.new_empty(tokens, heads)
        job = _job(query, key, value, starts, key_starts, pattern, bases)
        job.output, job.log_sums = output.data_ptr(), log_sums.data_ptr()
        library.kernel("graft_attention", _ARGUMENTS)(job)
        ctx.save_for_backward(query, key, value, starts, key_starts, bases, output, log_sums)
        ctx.library, ctx.pattern = library, pattern
        return output

    @staticmethod
    @once_differentiable  # of which the type checker only sees that it forgets the names of parameters
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute probabilities and what was dropped once more, and the gradients from them."""
        query, key, value, starts, key_starts, bases, output, log_sums = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        tokens, heads, width = query.shape
        groups = (key.shape[1], heads // key.shape[1])
        of_query, of_key = (query.new_empty(count, heads, width) for count in (tokens, len(key)))
        of_value = query.new_empty(len(value), heads, value.shape[2])
        job = _job(query, key, value, starts, key_starts, ctx.pattern, bases)
        job.output, job.log_sums, job.output_gradient = (t.data_ptr() for t in (output, log_sums, gradient))
        job.query_gradient, job.key_gradient, job.value_gradient = (
            tensor.data_ptr() for tensor in (of_query, of_key, of_value)
        )
        ctx.library.kernel("graft_attention_backward", _ARGUMENTS)(job)
        if groups[1] > 1:
            of_key, of_value = (tensor.unflatten(1, groups).sum(2) for tensor in (of_key, of_value))
        return None, of_query, of_key, of_value, None, None, None, None


def _job(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    pattern: Pattern,
    bases: Tensor | None,
) -> _Job:
    job = _Job()
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        setattr(job, name, tensor.data_ptr())
        setattr(job, f"{name}_token_stride", tensor.stride(0))
        setattr(job, f"{name}_head_stride", tensor.stride(1))
    job.starts, job.key_starts = starts.data_ptr(), key_starts.data_ptr()
    job.bases = None if bases is None else bases.data_ptr()
    job.sequences, job.heads, job.key_heads = len(starts) - 1, query.shape[1], key.shape[1]
    job.width, job.value_width = query.shape[2], value.shape[2]
    # A window beyond all tokens is none that C could overflow.
    job.window, job.causal = min(pattern.window or 0, len(query) + len(key)), int(pattern.causal)
    job.scale, job.kept_factor = pattern.scale, kept_factor(pattern.dropout)
    job.threshold = threshold(pattern.dropout)
    return job
