"""Bits per byte: how well a model predicts text, comparable across vocabularies."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", float, NDArray[np.float64])


def bits_per_byte(total_nats: Values, num_bytes: Values) -> Values:
    """Return total_nats / (ln 2 x num_bytes), of numbers or of arrays, element by element.

    Perplexity counts by token, so it rises with the length of the tokens; the bytes of a text are the same to every
    model. It is the size to which an arithmetic coder would compress the text by this model, over 8.

    Args:
        total_nats: minus the natural log-likelihood of all tokens together.
        num_bytes: of the same text in UTF-8.
    """
    return total_nats / (math.log(2.0) * num_bytes)
