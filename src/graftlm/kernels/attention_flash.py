"""Attention of variable length by the flash kernel that comes with torch: half precision on CUDA, without dropout."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from graftlm.kernels.attention_torch import Pattern, attention_padded
from graftlm.kernels.sequences import Sequences

DEVICE = "cuda"
_TYPES = (torch.float16, torch.bfloat16)
# What FlashAttention-2 takes: a multiple of 8 features in a head, and at most 256.
_FEATURES, _MOST_FEATURES = 8, 256
_ROUNDING = 0.03
"""Of numbers of size one in bfloat16, after some sums; a token that sees what it should not is far above it."""


def suits(query: Tensor, value: Tensor, dropout: float, bias: Tensor | None) -> bool:
    """Whether the kernel computes this; it has no dropout that could be keyed, and no bias."""
    width = query.shape[2]
    return (
        query.device.type == DEVICE
        and query.dtype in _TYPES
        and dropout == 0.0
        and bias is None
        and width == value.shape[2]
        and width % _FEATURES == 0
        and 0 < width <= _MOST_FEATURES
        and query.numel() > 0
        and len(value) > 0
        and proved(query.device)
    )


def attention_by_flash(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences, pattern: Pattern
) -> Tensor:
    """Return what `variable_length_attention` returns; its arguments have been checked there.

    The kernel counts a window to the left and to the right, the ends included; ours is the first distance out of sight.
    """
    reach = -1 if pattern.window is None else pattern.window - 1
    return _varlen_attn()(
        query,
        key,
        value,
        queries.starts,
        keys.starts,
        queries.longest,
        keys.longest,
        scale=pattern.scale,
        window_size=(reach, 0 if pattern.causal else reach),
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _varlen_attn() -> Any:
    # Here, as it registers operators that nobody needs on a CPU.
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@functools.cache
def proved(device: torch.device) -> bool:
    """Whether the kernel works on this device and gives what plain torch gives, with gradients; tried once.

    Old GPUs and old versions of torch lack it or parts of it.
    """
    return all(
        _agrees(device, Pattern(scale=0.3, causal=causal, window=window, dropout=0.0), key_heads)
        for causal, window, key_heads in ((False, None, 2), (True, None, 1), (False, 3, 2), (True, 3, 1))
    )


def _agrees(device: torch.device, pattern: Pattern, key_heads: int) -> bool:
    # Whoever asks first may be in the middle of an evaluation.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        sequences = Sequences.of(torch.tensor([0, 5, 6, 15]), device)
        random = torch.Generator().manual_seed(0)
        made = [torch.randn(15, heads, 8, generator=random) for heads in (2, key_heads, key_heads, 2)]
        *tensors, of_output = (each.to(device, torch.bfloat16) for each in made)
        found: list[list[Tensor]] = []
        for attend in (attention_by_flash, functools.partial(attention_padded, bases=None, bias=None)):
            own = [each.detach().requires_grad_() for each in tensors]
            try:
                output = attend(*own, sequences, sequences, pattern)  # pyright: ignore[reportCallIssue]
                found.append([output.detach(), *torch.autograd.grad(output, own, of_output)])
            except Exception:  # whatever a machine or a version says that cannot do it
                return False
    return all(
        bool((one - other).float().abs().max() <= _ROUNDING * max(1.0, float(other.abs().max())))
        for one, other in zip(*found, strict=True)
    )
