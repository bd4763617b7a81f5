"""Attention within sequences that lie one after the other, without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from graftlm.kernels import attention_flash
from graftlm.kernels.attention_kernel import attention_by_kernel
from graftlm.kernels.attention_torch import Pattern, attention_in_torch, attention_padded
from graftlm.kernels.library import Library, load
from graftlm.kernels.masks import threshold
from graftlm.kernels.sequences import Sequences


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
    key_starts: Tensor | None = None,
    sequences: tuple[Sequences, Sequences] | None = None,
) -> Tensor:
    """Return ``dropout(softmax(scale * query key' + bias)) value`` of each head; a query sees its own sequence only.

    float32 on the CPU without a bias is computed by the compiled kernel where there is one; half precision on CUDA
    without bias and dropout by the flash kernel of torch; all else in plain torch, on an accelerator as one padded
    batch. All drop the same probabilities: which, depends on the base of a query and on positions within its sequence.

    Args:
        query: [tokens, heads, width]; views with any strides are read without a copy if features are neighbours.
        key: [tokens or keys, key heads, width]; the number of heads is a multiple of that of key heads, and head h
            reads key head h // (heads / key heads).
        value: [tokens or keys, key heads, value width].
        starts: int64 [sequences + 1] on the CPU: sequence i is tokens starts[i] to starts[i + 1].
        scale: factor of the scores, as a rule width ** -0.5.
        causal: a query sees no key behind it.
        window: a query sees keys less than this far away; None for all.
        dropout: probability of dropping, in [0, 1).
        bases: int32 [tokens] on the device of query, of `keys.site_bases`; needed with dropout.
        bias: [1 or heads, longest, longest] or larger, added to the scores at positions (query, key).
        key_starts: int64 [sequences + 1] on the CPU, where queries and keys are not the same tokens: sequence i has the
            keys key_starts[i] to key_starts[i + 1], all of which its queries see. A sequence with queries needs a key.
        sequences: of the queries and of the keys, as an accelerator knows them, where they have been made: without
            them they are made for each call. On the CPU nobody reads them.

    Returns:
        [tokens, heads, value width], contiguous. By the kernel it can be differentiated once.

    Raises:
        ValueError: shapes, types, devices or options that do not fit each other.
    """
    _check_tensors(query, key, value)
    if key_starts is None and len(query) != len(key):
        raise ValueError(f"{len(query)} queries and {len(key)} keys need key_starts")
    _check_starts("starts", starts, len(query))
    if key_starts is not None:
        _check_starts("key_starts", key_starts, len(key))
        _check_apart(starts, key_starts, causal, window)
    key_starts = starts if key_starts is None else key_starts
    _check_options(query, starts, key_starts, window, dropout, bases, bias)
    pattern = Pattern(scale=scale, causal=causal, window=window, dropout=dropout)
    library = _suitable(query, value) if bias is None else None
    if library is not None:
        return attention_by_kernel(library, query, key, value, starts, key_starts, pattern, bases)
    if not _waited_for(query.device):
        return attention_in_torch(query, key, value, starts, key_starts, pattern, bases, bias)
    of_queries, of_keys = sequences or (
        Sequences.of(starts, query.device),
        Sequences.of(key_starts, query.device),
    )
    if attention_flash.suits(query, value, dropout, bias):
        return attention_flash.attention_by_flash(query, key, value, of_queries, of_keys, pattern)
    return attention_padded(query, key, value, of_queries, of_keys, pattern, bases, bias)


def _suitable(query: Tensor, value: Tensor) -> Library | None:
    on_cpu = query.dtype == torch.float32 and query.device.type == "cpu"
    return load() if on_cpu and query.numel() > 0 and value.numel() > 0 else None


def _waited_for(device: torch.device) -> bool:
    """Whether the CPU has to wait where it wants to know what the device has computed."""
    return device.type != "cpu"


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    if not query.dim() == key.dim() == value.dim() == 3:
        raise ValueError(
            f"query, key and value have 3 dimensions, not {query.dim()}, {key.dim()}, {value.dim()}"
        )
    shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
    if not (len(key) == len(value) and query.shape[2] == key.shape[2]):
        raise ValueError(f"tokens or widths differ: {shapes}")
    if key.shape[1] != value.shape[1] or key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(f"heads must be a multiple of the key heads, which are those of the value: {shapes}")
    if not query.is_floating_point() or len({query.dtype, key.dtype, value.dtype}) > 1:
        raise ValueError(f"query, key and value need one type: {query.dtype}, {key.dtype}, {value.dtype}")
    if len({query.device, key.device, value.device}) > 1:
        raise ValueError(
            f"query, key and value need one device: {query.device}, {key.device}, {value.device}"
        )


def _check_starts(name: str, starts: Tensor, tokens: int) -> None:
    if starts.dtype != torch.int64 or starts.dim() != 1 or starts.device.type != "cpu" or len(starts) == 0:
        raise ValueError(
            f"{name} is int64 [sequences + 1] on the CPU, not {starts.dtype} {list(starts.shape)} on {starts.device}"
        )
    if starts[0] != 0 or starts[-1] != tokens or bool((starts.diff() < 0).any()):
        raise ValueError(
            f"{name} must rise from 0 to the {tokens} tokens, not from {starts[0]} to {starts[-1]}"
        )


def _check_apart(starts: Tensor, key_starts: Tensor, causal: bool, window: int | None) -> None:
    if causal or window is not None:
        raise ValueError(
            "causal and window count from a query's own place, which keys apart from it do not have"
        )
    if len(starts) != len(key_starts):
        raise ValueError(f"starts are of {len(starts) - 1} sequences, key_starts of {len(key_starts) - 1}")
    lonely = ((starts.diff() > 0) & (key_starts.diff() == 0)).nonzero()
    if len(lonely):
        raise ValueError(f"sequence {int(lonely[0])} has queries but no key")


def _check_options(
    query: Tensor,
    starts: Tensor,
    key_starts: Tensor,
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
        queries, keys = (int(each.diff().max()) if len(each) > 1 else 0 for each in (starts, key_starts))
        fits = (
            bias.dim() == 3
            and bias.shape[0] in (1, query.shape[1])
            and bias.shape[1] >= queries
            and bias.shape[2] >= keys
        )
        if not fits or bias.dtype != query.dtype or bias.device != query.device:
            raise ValueError(
                f"a bias is {query.dtype} [1 or {query.shape[1]}, {queries} or more, {keys} or more] on "
                f"{query.device}, not {bias.dtype} {list(bias.shape)} on {bias.device}"
            )
