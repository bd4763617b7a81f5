"""Attention within examples, behind the interface that transformers calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from graftlm.kernels.attention import variable_length_attention
from graftlm.models.flat.passes import LastLayer, NotFlat, current_pass

NAME = "graftlm_flat"
USUAL = "sdpa"
"""What is called outside a flat pass, and what a model must use before it may be brought to work flat."""
# What families hand to attention that changes nothing for us: it says where tokens stand, which the layout does, or
# describes a cache, which a flat pass has not, or it is for the loss.
_IDLE = frozenset({
    "position_ids", "cache_position", "use_cache", "output_attentions", "deterministic", "num_items_in_batch",
})  # fmt: skip


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of [1, heads, tokens, features] within each example; outside a flat pass that of torch."""
    current = current_pass()
    if current is None or not current.inside:
        usual: Any = AttentionInterface()[USUAL]
        return usual(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
        )  # fmt: skip
    window = options.pop("sliding_window", None)
    if not _masked_alike(window, current.windows):
        raise NotFlat(f"its attention has the window {window}, its masks {sorted(map(str, current.windows))}")
    asked = {name for name, value in options.items() if value is not None and name not in _IDLE}
    if asked:
        raise NotFlat(f"its attention is given {', '.join(sorted(asked))}")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    bases = current.bases(query.shape[2]) if dropout else None
    layout = current.layout
    starts, key_starts, sequences = layout.starts, None, (layout.sequences, layout.sequences)
    if (
        current.source is not None and not causal
    ):  # of the decoder's two kinds of attention, that to what was read
        key_starts = current.source.starts
        sequences = (layout.sequences, current.source.sequences)
    elif current.last is not None:
        starts, key_starts = torch.arange(len(starts)), starts
        sequences = (layout.alone, layout.sequences)
        key, value = _of_all_tokens(current.last, key, value)
    # Not [0], whose way back would fill and copy.
    query, key, value = (each.squeeze(0).transpose(0, 1) for each in (query, key, value))
    if torch.is_autocast_enabled(query.device.type):  # as torch does it before its own attention
        narrow = torch.get_autocast_dtype(query.device.type)
        query, key, value = (each.to(narrow) for each in (query, key, value))
    found = variable_length_attention(
        query, key, value, starts,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=causal, window=window, dropout=dropout, bases=bases, key_starts=key_starts,
        sequences=sequences,
    )  # fmt: skip
    return found[None], None


def _of_all_tokens(last: LastLayer, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values [1, heads, tokens, features] of all tokens in the place of those of first ones."""
    if last.keys is None or last.values is None:
        raise NotFlat("the keys of its last layer are made elsewhere")
    kept = ((last.keys, key), (last.values, value))
    of_keys, of_values = (
        all_.unflatten(2, (one.shape[1], one.shape[3])).transpose(1, 2) for all_, one in kept
    )
    return of_keys, of_values


def _masked_alike(window: int | None, masks: set[int | None]) -> bool:
    """Whether attention is told of a window exactly where the masks that were asked for have one.

    Some families keep a window in the mask alone, others name one that their masks have not. Where they count its ends
    differently by one, the probe decides.
    """
    if window is None:
        return None in masks or not masks
    return any(size is not None and abs(size - window) <= 1 for size in masks)


def _mask(*args: Any, local_size: int | None = None, **options: Any) -> Tensor | None:
    """No mask in a flat pass: the layout keeps examples apart, and attention its window."""
    current = current_pass()
    if current is None or not current.inside:
        return sdpa_mask(*args, local_size=local_size, **options)
    current.windows.add(local_size)
    return None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
