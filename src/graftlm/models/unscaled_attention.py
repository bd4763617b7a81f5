"""How attention begins in a new network of T5's kind, which random weights alone teach too slowly to look anywhere.

T5 tells positions by a bias on the scores that is learnt from nothing, and a decoder finds the mark of a lost span in
what was read only once queries and keys have come to agree about it. Both are given here to begin with
(docs/decisions/0025-how-a-new-t5-begins.md).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_OCTAVES = 8
"""The bias of the first head falls by one a token, and that of each other more slowly; another would fall by 2**-8."""


def begin_attention(model: PreTrainedModel) -> None:
    """Let heads look near, each less than the one before it, and a decoder look for what is like its own token.

    The bias of head h of H (from 0) at a distance of d tokens is ``-d * 2 ** (-8 h / H)``, as in ALiBi (Press et al.
    2022). Keys of attention between decoder and encoder are the queries times the root of a head's width, which leaves
    their size as it is: ``q(x) k(y)`` then grows with ``x y`` (as by the "mimetic" weights of Trockman and Kolter
    2023).

    Args:
        model: new; it is changed in place. A base model that has learnt something must never be given here.
    """
    with torch.no_grad():
        for name, module in model.named_modules():
            attention: Any = module
            bias = getattr(module, "relative_attention_bias", None)
            if isinstance(bias, nn.Embedding):
                distances = _distances(
                    attention.relative_attention_num_buckets,
                    attention.relative_attention_max_distance,
                    both_ways=not attention.is_decoder,
                )
                slopes = 2.0 ** (-_OCTAVES * torch.arange(bias.embedding_dim) / bias.embedding_dim)
                bias.weight[: len(distances)] = -distances[:, None] * slopes
            if name.endswith("EncDecAttention"):
                attention.k.weight.copy_(attention.q.weight * math.sqrt(attention.key_value_proj_dim))


def _distances(buckets: int, furthest: int, both_ways: bool) -> Tensor:
    """Return the distance in tokens at which each bucket begins: exact ones first, then in equal ratios.

    With both ways the first half of the buckets is for what stands before a token, the second for what is behind it.
    """
    if both_ways:
        return _distances(buckets // 2, furthest, both_ways=False).repeat(2)
    exact = max(1, buckets // 2)
    numbers = torch.arange(buckets, dtype=torch.float32)
    further = exact * (furthest / exact) ** ((numbers - exact) / max(1, buckets - exact))
    return torch.where(numbers < exact, numbers, further)
