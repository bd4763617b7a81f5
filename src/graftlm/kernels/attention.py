"""Attention within sequences that lie one after the other, without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from graftlm.kernels.attention_kernel import attention_by_kernel
from graftlm.kernels.attention_torch import Pattern, attention_in_torch
from graftlm.kernels.library import Library, load
from graftlm.kernels.masks import threshold


def variable_length_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    *,
    scale: float,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
    bases: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Return ``dropout(softmax(scale * query key' + bias)) value`` of each head; a query sees its own sequence only.

    float32 on the CPU without a bias is computed by the compiled kernel where there is one, all else in torch. Both
    drop the same probabilities: which, depends on the base of a query and on positions within its sequence.

    Args:
        query: [tokens, heads, width]; views with any strides are read without a copy if features are neighbours.
        key: [tokens, key heads, width]; the number of heads is a multiple of that of key heads, and head h reads
            key head h // (heads / key heads).
        value: [tokens, key heads, value width].
        starts: int64 [sequences + 1] on the CPU: sequence i is tokens starts[i] to starts[i + 1].
        scale: factor of the scores, as a rule width ** -0.5.
        causal: a query sees no key behind it.
        window: a query sees keys less than this far away; None for all.
        dropout: probability of dropping, in [0, 1).
        bases: int32 [tokens] on the device of query, of `keys.site_bases`; needed with dropout.
        bias: [1 or heads, longest, longest] or larger, added to the scores at positions (query, key).

    Returns:
        [tokens, heads, value width], contiguous. By the kernel it can be differentiated once.

    Raises:
        ValueError: shapes, types, devices or options that do not fit each other.
    """
    _check_tensors(query, key, value)
    _check_starts(starts, len(query))
    _check_options(query, starts, window, dropout, bases, bias)
    pattern = Pattern(scale=scale, causal=causal, window=window, dropout=dropout)
    library = _suitable(query, value) if bias is None else None
    if library is not None:
        return attention_by_kernel(library, query, key, value, starts, pattern, bases)
    return attention_in_torch(query, key, value, starts, pattern, bases, bias)


def _suitable(query: Tensor, value: Tensor) -> Library | None:
    on_cpu = query.dtype == torch.float32 and query.device.type == "cpu"
    return load() if on_cpu and query.numel() > 0 and value.numel() > 0 else None


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    if not query.dim() == key.dim() == value.dim() == 3:
        raise ValueError(
            f"query, key and value have 3 dimensions, not {query.dim()}, {key.dim()}, {value.dim()}"
        )
    shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
    if not (len(query) == len(key) == len(value) and query.shape[2] == key.shape[2]):
        raise ValueError(f"tokens or widths differ: {shapes}")
    if key.shape[1] != value.shape[1] or key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(f"heads must be a multiple of the key heads, which are those of the value: {shapes}")
    if not query.is_floating_point() or len({query.dtype, key.dtype, value.dtype}) > 1:
        raise ValueError(f"query, key and value need one type: {query.dtype}, {key.dtype}, {value.dtype}")
    if len({query.device, key.device, value.device}) > 1:
        raise ValueError(
            f"query, key and value need one device: {query.device}, {key.device}, {value.device}"
        )


def _check_starts(starts: Tensor, tokens: int) -> None:
    if starts.dtype != torch.int64 or starts.dim() != 1 or starts.device.type != "cpu" or len(starts) == 0:
        raise ValueError(
            f"starts is int64 [sequences + 1] on the CPU, not {starts.dtype} {list(starts.shape)} on {starts.device}"
        )
    if starts[0] != 0 or starts[-1] != tokens or bool((starts.diff() < 0).any()):
        raise ValueError(
            f"starts must rise from 0 to the {tokens} tokens, not from {starts[0]} to {starts[-1]}"
        )


def _check_options(
    query: Tensor,
    starts: Tensor,
    window: int | None,
    dropout: float,
    bases: Tensor | None,
    bias: Tensor | None,
) -> None:
    if window is not None and window < 1:
        raise ValueError(f"a window has at least 1 key, not {window}")
    if threshold(dropout) > 0 and bases is None:
        raise ValueError("dropout needs bases")
    if bases is not None and (
        bases.dtype != torch.int32 or bases.shape != (len(query),) or bases.device != query.device
    ):
        raise ValueError(
            f"bases are int32 [{len(query)}] on {query.device}, "
            f"not {bases.dtype} {list(bases.shape)} on {bases.device}"
        )
    if bias is not None:
        longest = int(starts.diff().max()) if len(starts) > 1 else 0
        fits = bias.dim() == 3 and bias.shape[0] in (1, query.shape[1]) and min(bias.shape[1:]) >= longest
        if not fits or bias.dtype != query.dtype or bias.device != query.device:
            raise ValueError(
                f"a bias is {query.dtype} [1 or {query.shape[1]}, {longest} or more, {longest} or more] on "
                f"{query.device}, not {bias.dtype} {list(bias.shape)} on {bias.device}"
            )
