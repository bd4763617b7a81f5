"""Attention of variable length in torch alone: every device and type, and what the kernels are tested against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graftlm.kernels.dropout import keyed_dropout
from graftlm.kernels.masks import rows_of_heads
from graftlm.kernels.sequences import Sequences

_WORTH_A_GROUP = 60_000
"""So many scores of padding take about as long as to compute one more group does, on one core of a CPU."""


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

    Sequences of about the same lengths are computed together, which is counted on the CPU: an accelerator would wait
    for it, see `attention_padded`.
    """
    groups = _groups(starts.diff(), key_starts.diff(), query.shape[1])
    if not groups:
        return query.new_zeros(0, query.shape[1], value.shape[2]) + 0 * (
            query.sum() + key.sum() + value.sum()
        )
    at_queries = torch.cat([_places(starts, numbers, group.lengths) for numbers, group in groups])
    at_keys = torch.cat([_places(key_starts, numbers, group.key_lengths) for numbers, group in groups])
    drawn = None if bases is None else _taken(bases, at_queries)
    queries_of = [group.queries * len(numbers) for numbers, group in groups]
    keys_of = [group.keys * len(numbers) for numbers, group in groups]
    parts: list[Tensor] = []
    for (numbers, group), q, k, v, of_dropout in zip(
        groups,
        _taken(query, at_queries).split(queries_of),
        *(_taken(tensor, at_keys).split(keys_of) for tensor in (key, value)),
        [None] * len(groups) if drawn is None else drawn.split(queries_of),
        strict=True,
    ):
        batch = len(numbers)
        # [sequences, heads, length, width]
        q = q.unflatten(0, (batch, group.queries)).transpose(1, 2)
        k, v = (tensor.unflatten(0, (batch, group.keys)).transpose(1, 2) for tensor in (k, v))
        of_dropout = None if of_dropout is None else of_dropout.view(batch, group.queries)
        part = _attention(q, k, v, pattern, group, of_dropout, bias)
        parts.append(part.transpose(1, 2).flatten(0, 1))
    # Of what was computed, where each token is.
    real = torch.cat([(torch.arange(group.queries) < group.lengths[:, None]).view(-1) for _, group in groups])
    computed = torch.empty(len(query), dtype=torch.int64)
    computed[at_queries[real]] = real.nonzero().flatten()
    return _taken(torch.cat(parts), computed)


def attention_padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Sequences,
    keys: Sequences,
    pattern: Pattern,
    bases: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Return what `variable_length_attention` returns, of all sequences in one padded batch.

    All is counted on the device of the tokens, which waits for nobody: what accelerators compute that have no kernel
    for it. Padding costs arithmetic here, of which they have plenty.
    """
    # A sequence without keys has no query that anybody reads, but what is computed for it must be a number.
    seen = keys.lengths.clamp(min=1)
    group = _Group(queries.lengths, seen, queries.longest, keys.longest, padded=True)
    q, k, v = (
        where.padded(each).transpose(1, 2) for where, each in ((queries, query), (keys, key), (keys, value))
    )
    of_dropout = None if bases is None else queries.padded(bases)
    return queries.flat(_attention(q, k, v, pattern, group, of_dropout, bias).transpose(1, 2))


@dataclass(frozen=True)
class _Group:
    """Sequences that are computed together.

    Args:
        lengths: [sequences], how many queries each has.
        key_lengths: [sequences], how many keys.
        queries: places for queries of each.
        keys: places for keys of each.
        padded: whether there are keys that nobody sees.
    """

    lengths: Tensor
    key_lengths: Tensor
    queries: int
    keys: int
    padded: bool

    @classmethod
    def of(cls, lengths: Tensor, key_lengths: Tensor) -> _Group:
        """Return a group with as many places as its longest sequences need; the shorter ones repeat their last ones."""
        keys = int(key_lengths.max())
        padded = bool((key_lengths < keys).any())
        return cls(lengths, key_lengths, int(lengths.max()), keys, padded)

    def visible(self, pattern: Pattern, device: torch.device) -> Tensor:
        """Return which query sees which key, bool [1 or sequences, 1, queries, keys]."""
        lengths, key_lengths = (
            each if self.padded else each[:1] for each in (self.lengths, self.key_lengths)
        )
        keys = torch.arange(self.keys, device=key_lengths.device)
        seen = keys < key_lengths[:, None, None]
        if pattern.causal or pattern.window is not None:
            distance = _within(lengths, self.queries)[:, :, None] - keys
            if pattern.causal:
                seen = seen & (distance >= 0)
            if pattern.window is not None:
                seen = seen & (distance.abs() < pattern.window)
        return seen[:, None].to(device)


def _groups(lengths: Tensor, key_lengths: Tensor, heads: int) -> list[tuple[Tensor, _Group]]:
    """Return the numbers of sequences with queries, the longest first, and their groups.

    A group ends where padding is dearer than another group.
    """
    pairs = list(zip(lengths.tolist(), key_lengths.tolist(), strict=True))
    order = sorted(
        (number for number, pair in enumerate(pairs) if pair[0]), key=pairs.__getitem__, reverse=True
    )
    groups: list[list[int]] = []
    queries = keys = scores = 0
    for number in order:
        own_queries, own_keys = pairs[number]
        longest = max(keys, own_keys)
        all_scores = scores + own_queries * own_keys
        padding = (len(groups[-1]) + 1) * queries * longest - all_scores if groups else 0
        if groups and padding * heads <= _WORTH_A_GROUP:
            groups[-1].append(number)
            keys, scores = longest, all_scores
        else:
            groups.append([number])
            queries, keys, scores = own_queries, own_keys, own_queries * own_keys
    numbers = [torch.tensor(group) for group in groups]
    return [(each, _Group.of(lengths[each], key_lengths[each])) for each in numbers]


def _places(starts: Tensor, sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return which token each place of a group has, [sequences x longest]."""
    return (starts[sequences, None] + _within(lengths, int(lengths.max()))).view(-1)


def _within(lengths: Tensor, longest: int) -> Tensor:
    """Return the positions of sequences, the last one again where one has ended, [sequences, longest]."""
    return torch.minimum(torch.arange(longest, device=lengths.device), lengths[:, None] - 1)


def _taken(tensor: Tensor, places: Tensor) -> Tensor:
    """Return the rows of a tensor at the places; the tensor itself where these are all of them in order."""
    if len(places) == len(tensor) and bool((places == torch.arange(len(tensor))).all()):
        return tensor
    return tensor.index_select(0, places.to(tensor.device))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    group: _Group,
    bases: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    heads, grouped = query.shape[1], query.shape[1] != key.shape[1]
    narrow = pattern.window is not None and pattern.window < group.keys
    if pattern.dropout == 0.0 and bias is None:
        simple = not (group.padded or narrow)
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if simple else group.visible(pattern, query.device),
            is_causal=pattern.causal and simple,
            scale=pattern.scale,
            enable_gqa=grouped,
        )
    if grouped:
        key, value = (tensor.repeat_interleave(heads // key.shape[1], 1) for tensor in (key, value))
    # Whatever goes over all scores takes as long as a product: queries are scaled instead, masks are added in place.
    scores = (query * pattern.scale) @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias[:, : group.queries, : group.keys]
    if group.padded or narrow or pattern.causal:
        hidden = torch.zeros((), dtype=scores.dtype, device=scores.device)
        scores += hidden.masked_fill(~group.visible(pattern, query.device), float("-inf"))
    # Half precision is too coarse for sums of many small exponentials.
    wide = torch.float32 if query.dtype in (torch.float16, torch.bfloat16) else query.dtype
    probabilities = scores.softmax(-1, dtype=wide)
    if bases is not None and pattern.dropout > 0.0:
        rows = rows_of_heads(bases, heads).reshape(-1)
        probabilities = keyed_dropout(probabilities, rows, pattern.dropout)
    return probabilities.to(value.dtype) @ value
