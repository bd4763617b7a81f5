# pyright: basic, reportMissingImports=false, reportOperatorIssue=false, reportCallIssue=false, reportIndexIssue=false
"""Keyed dropout in one launch on CUDA, in Triton, which comes with PyTorch there. Without it torch takes twenty."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from graftlm.kernels.masks import kept_factor, kept_features, threshold

_MOST_COLUMNS = 1024


@triton.jit
def _drop(x, bases, output, features, factor, THRESHOLD: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: ANN001, ANN202
    """One program drops in a part of one row; the same bits as `graftlm.kernels.masks`."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < features
    bits = tl.load(bases + row).to(tl.uint32, bitcast=True) + (columns // 2).to(tl.uint32) * 0x9E3779B9
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    bits = bits ^ (bits >> 16)
    bits = tl.where(columns % 2 == 0, bits & 0xFFFF, bits >> 16)
    values = tl.load(x + row * features + columns, mask=inside).to(tl.float32)
    # Not zero itself where it is dropped: a NaN stays one.
    kept = values * tl.where(bits.to(tl.int32) >= THRESHOLD, factor, 0.0)
    tl.store(output + row * features + columns, kept.to(output.dtype.element_ty), mask=inside)


def drop(x: Tensor, bases: Tensor, probability: float) -> Tensor:
    """Return what `graftlm.kernels.dropout.keyed_dropout` does of a tensor of float32 or a narrower type."""
    x, bases = x.contiguous(), bases.contiguous()
    output, features = torch.empty_like(x), x.shape[-1]
    columns = min(_MOST_COLUMNS, triton.next_power_of_2(features))
    grid = (len(bases), triton.cdiv(features, columns))
    _drop[grid](
        x,
        bases,
        output,
        features,
        kept_factor(probability),
        THRESHOLD=threshold(probability),
        COLUMNS=columns,
    )
    return output


@functools.cache
def proved(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel works on this device and gives what plain torch gives; tried once."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(7, 1100, generator=random).to(device, dtype)
    bases = torch.randint(-(2**31), 2**31, (7,), generator=random).to(device, torch.int32)
    expected = (x * kept_features(bases, 1100, 0.3)).mul_(kept_factor(0.3))
    try:
        found = drop(x, bases, 0.3)
        return bool(((found == 0) == (expected == 0)).all()) and torch.allclose(found, expected, rtol=0.01)
    except Exception:  # whatever a machine or a version says that cannot do it
        return False
