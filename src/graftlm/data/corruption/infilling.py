"""Infilling: spans of any length, also of none, are replaced by one mask each, and the model writes the whole text.

Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training", 2020, section 2.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corruption.flat import first_items, owners, positions_within
from graftlm.data.corruption.spans import scattered
from graftlm.data.corruption.uniforms import Keys, share_of, uniforms
from graftlm.data.ragged import Ragged

MEAN_SPAN_TOKENS = 3.0


def infill(
    texts: Ragged,
    keys: Keys,
    mask_token: int,
    share: float = 0.3,
    mean_span_tokens: float = MEAN_SPAN_TOKENS,
    longest: int | None = None,
) -> Ragged:
    """Return texts in which a mask stands for each span; the targets are the texts themselves.

    The lengths of spans follow a Poisson distribution. They are drawn until the share of the text is spent, which is
    rounded at random, so that it holds in the mean; the last one is cut. Where nothing is lost, a mask stands between
    two tokens. No two masks touch, so each stands for one span.

    Args:
        texts: without special tokens.
        keys: uint64 [texts], see `corruption_keys`.
        mask_token: stands for a span.
        share: of the tokens that are lost, 0 to 1.
        mean_span_tokens: tokens of a span in the mean.
        longest: tokens that a result may have, at least those of the longest text. Where masks that stand for nothing
            would make it longer, there are fewer spans: no token is cut off. None: as long as it gets.

    Raises:
        ValueError: a share that is none, or spans that are empty in the mean.
    """
    if not 0.0 <= share <= 1.0 or not mean_span_tokens > 0.0:
        raise ValueError(f"no text can lose {share} of its tokens in spans of {mean_span_tokens}")
    lengths = texts.lengths
    budgets = share_of(lengths, share, keys, "number of lost tokens")
    # So many that together they fall short of the budget in less than one text of a billion.
    enough = np.ceil(budgets / min(1.0, mean_span_tokens / 3.0)) + math.ceil(24.0 / mean_span_tokens)
    counts = np.where(budgets > 0, enough, 0).astype(np.int64)
    drawn = np.searchsorted(
        _poisson(mean_span_tokens), uniforms(keys, counts, "lengths of spans"), side="right"
    )
    most = None if longest is None else longest - (lengths - budgets)
    spans = scattered(drawn, counts, budgets, lengths, keys, most)
    return spans.replaced(texts, np.full(len(spans.lengths), mask_token, dtype=np.int32))


def permute_sentences(texts: Ragged, keys: Keys, sentences: Ragged) -> Ragged:
    """Return texts whose sentences stand in any order, each as likely as any other.

    Args:
        texts: without special tokens.
        keys: uint64 [texts], see `corruption_keys`.
        sentences: the lengths of the sentences of each text in tokens, together those of the text.

    Raises:
        ValueError: sentences that do not make up the texts.
    """
    counts, lengths = sentences.lengths, sentences.values.astype(np.int64)
    text = owners(counts)
    if not np.array_equal(np.bincount(text, lengths, minlength=len(texts)), texts.lengths):
        raise ValueError("the lengths of the sentences of a text do not add up to that of the text")
    order = np.lexsort((uniforms(keys, counts, "order of sentences"), text))
    moved = lengths[order]
    return Ragged(
        texts.values[np.repeat(first_items(lengths)[order], moved) + positions_within(moved)], texts.starts
    )


def _poisson(mean: float) -> NDArray[np.float64]:
    """Return the probabilities of at most 0, 1, 2, ... until nothing is left."""
    numbers = range(math.ceil(mean + 12.0 * math.sqrt(mean) + 12.0))
    each = [math.exp(number * math.log(mean) - mean - math.lgamma(number + 1)) for number in numbers]
    return np.cumsum(each)
