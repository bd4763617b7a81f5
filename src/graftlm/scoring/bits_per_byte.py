"""Bits per byte: how well a model predicts text, comparable across vocabularies."""

from __future__ import annotations

import math


def bits_per_byte(total_nats: float, num_bytes: int) -> float:
    """Return total_nats / (ln 2 x num_bytes).

    Perplexity counts by token, so it rises with the length of the tokens; the bytes of a text are the same to every
    model. It is the size to which an arithmetic coder would compress the text by this model, over 8.

    Args:
        total_nats: minus the natural log-likelihood of all tokens together, at least 0.
        num_bytes: of the same text in UTF-8.

    Raises:
        ValueError: there are no bytes, or less than no nats.
    """
    if num_bytes < 1 or not total_nats >= 0.0:
        raise ValueError(f"need bytes and nats, got {num_bytes} and {total_nats}")
    return total_nats / (math.log(2.0) * num_bytes)
