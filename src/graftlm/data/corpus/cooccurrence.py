"""How often two tokens of a corpus stand near one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corpus.shards import TokenCorpus

_STRETCH_TOKENS = 1 << 20


@dataclass(frozen=True, eq=False)
class Cooccurrences:
    """Pairs of tokens, each once, and how often they occur.

    Args:
        left: the token that stands before the other, int64 [pairs].
        right: that which follows it, int64 [pairs].
        counts: how often it does, int64 [pairs].
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    counts: NDArray[np.int64]


def cooccurrences(
    corpus: TokenCorpus, window_tokens: int, most_tokens: int, stretch_tokens: int = _STRETCH_TOKENS
) -> Cooccurrences:
    """Count the pairs of tokens that stand near one another within one document.

    Args:
        corpus: tokens of documents.
        window_tokens: the largest distance of a pair.
        most_tokens: of a longer corpus as many stretches are read as hold at most these, spread evenly over it.
        stretch_tokens: read at a time; memory is needed for their pairs and for all different ones.
    """
    stretches = range(0, corpus.num_tokens, stretch_tokens)
    most = len(stretches) if corpus.num_tokens <= most_tokens else max(1, most_tokens // stretch_tokens)
    kept = [stretches[number * len(stretches) // most] for number in range(most)]
    found = [
        np.unique(_pairs(corpus, start, start + stretch_tokens, window_tokens), return_counts=True)
        for start in kept
    ]
    pairs, which = np.unique(np.concatenate([pairs for pairs, _ in found]), return_inverse=True)
    counts = np.bincount(which, weights=np.concatenate([counts for _, counts in found]))
    return Cooccurrences(pairs >> 32, pairs & 0xFFFFFFFF, counts.astype(np.int64))


def _pairs(corpus: TokenCorpus, start: int, end: int, window_tokens: int) -> NDArray[np.int64]:
    """Return ``left * 2**32 + right`` of each pair whose left token is one of ``start`` to ``end``."""
    tokens = corpus.window(start, min(end + window_tokens, corpus.num_tokens))
    places = np.arange(start, start + len(tokens))
    documents = np.searchsorted(corpus.document_starts, places, side="right")
    found: list[NDArray[np.int64]] = []
    for distance in range(1, window_tokens + 1):
        left = np.arange(min(end - start, len(tokens) - distance))
        left = left[documents[left] == documents[left + distance]]
        found.append((tokens[left] << 32) + tokens[left + distance])
    return np.concatenate(found)
