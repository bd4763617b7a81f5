"""Heads that judge whether the second of two segments belongs behind the first."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

_LABELS = frozenset({"next_sentence_label", "sentence_order_label"})


def has_pair_head(model_class: type[nn.Module]) -> bool:
    """Whether networks of this class have one: BERT and its relatives for the next sentence, ALBERT for the order."""
    return not _LABELS.isdisjoint(inspect.signature(model_class.forward).parameters)


def pair_logits(result: Any) -> Tensor:
    """Return what such a head says, [examples, 2]; the first number stands for segments that belong together."""
    return result.seq_relationship_logits if hasattr(result, "seq_relationship_logits") else result.sop_logits


def pair_logits_of_tokens(logits: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return the same of a network that has a head for tokens only, from what that says at the first token.

    The token that opens an example says that its segments belong together, the one that closes it that they do not.
    No weight is added: what was learnt is in the saved network, whatever its family.

    Args:
        logits: of the first token of each example, [examples, vocabulary].
        ids: [examples, tokens], filled up on the right.
        lengths: tokens of each example, int64 [examples].
    """
    last = ids.gather(1, lengths[:, None] - 1)
    return logits.gather(1, torch.cat([ids[:, :1], last], dim=1))
