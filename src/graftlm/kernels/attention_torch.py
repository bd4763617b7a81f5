"""Attention of variable length in torch alone: every device and type, and what the kernel is tested against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graftlm.kernels.masks import kept_keys


@dataclass(frozen=True)
class Pattern:
    """Which keys a query sees and which of them it drops; the options of `variable_length_attention`."""

    scale: float
    causal: bool
    window: int | None
    dropout: float


def attention_in_torch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    pattern: Pattern,
    bases: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Return what `variable_length_attention` returns; its arguments have been checked there.

    Sequences of one length are computed together. In GPU memory of half precision without dropout,
    `torch.nn.attention.varlen` would take all at once: its place is at the top of this function.
    """
    parts: list[Tensor] = []
    places: list[Tensor] = []
    for length, begins in _by_length(starts):
        place = (begins[:, None] + torch.arange(length)).view(-1)
        places.append(place)
        batch = (len(begins), length)
        if len(begins) == 1:
            inside = slice(int(begins[0]), int(begins[0]) + length)
        else:
            inside = place.to(query.device)
        # [sequences, heads, length, width]
        q, k, v = (tensor[inside].unflatten(0, batch).transpose(1, 2) for tensor in (query, key, value))
        drawn = None if bases is None else bases[inside].view(batch)
        part = _attention(q, k, v, pattern, drawn, None if bias is None else bias[:, :length, :length])
        parts.append(part.transpose(1, 2).flatten(0, 1))
    if not parts:
        return query.new_zeros(0, query.shape[1], value.shape[2]) + 0 * (
            query.sum() + key.sum() + value.sum()
        )
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts)[torch.argsort(torch.cat(places)).to(query.device)]


def _by_length(starts: Tensor) -> list[tuple[int, Tensor]]:
    """Return each length with the first tokens of its sequences; that of empty ones only where there are no others."""
    lengths = starts.diff()
    occurring = torch.unique(lengths[lengths > 0]).tolist()
    return [(length, starts[:-1][lengths == length]) for length in occurring] or [(0, starts[:1])]


def _attention(
    query: Tensor, key: Tensor, value: Tensor, pattern: Pattern, bases: Tensor | None, bias: Tensor | None
) -> Tensor:
    heads, length, grouped = query.shape[1], query.shape[2], query.shape[1] != key.shape[1]
    if pattern.dropout == 0.0 and bias is None:
        simple = pattern.window is None or pattern.window >= length
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if simple else _visible(length, pattern, query.device),
            is_causal=pattern.causal and simple,
            scale=pattern.scale,
            enable_gqa=grouped,
        )
    if grouped:
        key, value = (tensor.repeat_interleave(heads // key.shape[1], 1) for tensor in (key, value))
    scores = query @ key.transpose(-1, -2) * pattern.scale
    if bias is not None:
        scores = scores + bias
    if pattern.causal or pattern.window is not None:
        scores = scores.masked_fill(~_visible(length, pattern, query.device), float("-inf"))
    # Half precision is too coarse for sums of many small exponentials.
    wide = torch.float32 if query.dtype in (torch.float16, torch.bfloat16) else query.dtype
    probabilities = scores.softmax(-1, dtype=wide)
    if bases is not None and pattern.dropout > 0.0:
        kept = kept_keys(bases, heads, length, pattern.dropout)
        probabilities = probabilities * kept * (1.0 / (1.0 - pattern.dropout))
    return probabilities.to(value.dtype) @ value


def _visible(length: int, pattern: Pattern, device: torch.device) -> Tensor:
    """Return bool [queries, keys]."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position
    visible = torch.ones_like(distance, dtype=torch.bool)
    if pattern.window is not None:
        visible &= distance.abs() < pattern.window
    if pattern.causal:
        visible &= distance >= 0
    return visible
