"""Attention of variable length in torch alone: every device and type, and what the kernel is tested against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    key_starts: Tensor,
    pattern: Pattern,
    bases: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Return what `variable_length_attention` returns; its arguments have been checked there.

    Sequences of the same lengths are computed together. In GPU memory of half precision without dropout,
    `torch.nn.attention.varlen` would take all at once: its place is at the top of this function.
    """
    parts: list[Tensor] = []
    places: list[Tensor] = []
    for (queries, keys), sequences in _by_lengths(starts, key_starts):
        rows, at_rows = _places(starts[sequences], queries, query.device)
        _, at_keys = _places(key_starts[sequences], keys, query.device)
        batch = len(sequences)
        # [sequences, heads, length, width]
        q = query[at_rows].unflatten(0, (batch, queries)).transpose(1, 2)
        k, v = (tensor[at_keys].unflatten(0, (batch, keys)).transpose(1, 2) for tensor in (key, value))
        drawn = None if bases is None else bases[at_rows].view(batch, queries)
        part = _attention(q, k, v, pattern, drawn, None if bias is None else bias[:, :queries, :keys])
        parts.append(part.transpose(1, 2).flatten(0, 1))
        places.append(rows)
    if not parts:
        return query.new_zeros(0, query.shape[1], value.shape[2]) + 0 * (
            query.sum() + key.sum() + value.sum()
        )
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts)[torch.argsort(torch.cat(places)).to(query.device)]


def _by_lengths(starts: Tensor, key_starts: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
    """Return each pair of lengths, of queries and of keys, with the numbers of its sequences.

    Those without queries only where there are no others.
    """
    lengths = torch.stack([starts.diff(), key_starts.diff()], dim=1)
    occurring = torch.unique(lengths[lengths[:, 0] > 0], dim=0)
    pairs = [(int(queries), int(keys)) for queries, keys in occurring]
    found = [(pair, (lengths == torch.tensor(pair)).all(1).nonzero().flatten()) for pair in pairs]
    return found or [((0, 0), torch.zeros(1, dtype=torch.int64))]


def _places(begins: Tensor, length: int, device: torch.device) -> tuple[Tensor, Any]:
    """Return the numbers of the tokens of sequences of one length, and what to index a tensor there with."""
    places = (begins[:, None] + torch.arange(length)).view(-1)
    if len(begins) == 1:  # without a copy
        return places, slice(int(begins[0]), int(begins[0]) + length)
    return places, places.to(device)


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
        kept = kept_keys(bases, heads, key.shape[2], pattern.dropout)
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
