"""Pairs of segments for next-sentence prediction and sentence order, from sentences and documents.

Devlin et al., "BERT", 2019, appendix A.2 and ``create_instances_from_document`` in its repository; sentence order after
Lan et al., "ALBERT", 2020, section 3.1. A pass over a corpus gives a list of pairs, as places in its tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corruption.uniforms import Keys, corruption_keys, uniforms
from graftlm.errors import DataError

SHORT_SHARE = 0.1
"""Of pairs that are made shorter than they could be, so that the model also sees short texts."""
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sentences:
    """How a corpus is cut into sentences and documents.

    Args:
        sentence_starts: where each sentence begins among the tokens, and where the last one ends, [sentences + 1]. Each
            has a token at least.
        document_sentences: number of the first sentence of each document, and of all sentences, [documents + 1].
    """

    sentence_starts: Places
    document_sentences: Places

    @property
    def documents(self) -> int:
        """How many there are."""
        return len(self.document_sentences) - 1

    def parts(self, sentences: int) -> Iterator[range]:
        """Yield documents in their order, as many as have so many sentences together, one at least."""
        start = 0
        while start < self.documents or start == 0:
            wanted = self.document_sentences[start] + sentences
            stop = max(start + 1, int(np.searchsorted(self.document_sentences, wanted, side="right")) - 1)
            yield range(start, min(stop, self.documents))
            start = stop


@dataclass(frozen=True, eq=False)
class SegmentPairs:
    """Pairs of segments A and B, as places in the tokens of a corpus.

    Args:
        a_starts: first token of A, int64 [pairs].
        a_ends: the token behind A.
        b_starts: first token of B.
        b_ends: the token behind B.
        in_order: whether B follows A in the corpus, bool [pairs].
    """

    a_starts: Places
    a_ends: Places
    b_starts: Places
    b_ends: Places
    in_order: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.in_order)


def next_sentence_pairs(
    corpus: Sentences, tokens: int, seed: int, pass_number: int, documents: range | None = None
) -> SegmentPairs:
    """Return the pairs of one pass for next-sentence prediction.

    A is the beginning of a run of sentences that fills ``tokens``, and B, with equal chances, the rest of that run or
    sentences from another document, with which A is filled up. In the second case the next pair begins with the rest.
    Another document is any other, each as likely, from any of its sentences on.

    As published but for three points, so that both kinds are equally frequent and long documents are treated as short
    ones: a run has two sentences at least, so the last sentence of a document begins no pair if it is left by itself;
    one pair in ten, not one document, has a shorter target; and what a segment loses, because the two together are too
    long, it loses in front and behind by one draw instead of one for each token.

    Args:
        corpus: see there.
        tokens: of A and B together at most: the length limit less special tokens.
        seed: of the run.
        pass_number: each pass pairs anew.
        documents: whose pairs are asked for, None for all. Pairs of a document do not depend on it; a corpus of very
            many sentences is better asked for in parts, as some 200 bytes for each of them are needed meanwhile.

    Raises:
        DataError: there is one document only.
    """
    sizes = np.diff(corpus.document_sentences)
    filled = np.flatnonzero(sizes > 0)
    if len(filled) < 2:
        raise DataError(
            "next-sentence prediction takes every other second segment from another document, and this corpus has "
            f"{len(filled)}",
            fix="keep documents apart (a file or a row for each), or train sentence order instead",
        )
    runs = _runs(corpus, tokens, seed, pass_number, documents, reuses=True)
    starts, keys = corpus.sentence_starts, corruption_keys(seed, pass_number, runs.first)
    a_starts, a_ends, b_starts, b_ends = (
        starts[each] for each in (runs.first, runs.middle, runs.middle, runs.end)
    )
    one = np.ones(len(keys), dtype=np.int64)
    # Any number but that of the own document: the draw leaves one out, and those behind it move up.
    own = np.searchsorted(filled, runs.document)
    other = (uniforms(keys, one, "other document") * (len(filled) - 1)).astype(np.int64)
    other = filled[other + (other >= own)]
    first = (uniforms(keys, one, "first sentence") * sizes[other]).astype(np.int64)
    first += corpus.document_sentences[other]
    wanted = starts[first] + runs.target - (a_ends - a_starts)
    end = np.clip(np.searchsorted(starts, wanted), first + 1, corpus.document_sentences[other + 1])
    b_starts, b_ends = (
        np.where(runs.coin, random, following)
        for random, following in ((starts[first], b_starts), (starts[end], b_ends))
    )
    a, b = _cut((a_starts, a_ends), (b_starts, b_ends), tokens, keys)
    return SegmentPairs(*a, *b, ~runs.coin)


def sentence_order_pairs(
    corpus: Sentences, tokens: int, seed: int, pass_number: int, documents: range | None = None
) -> SegmentPairs:
    """Return the pairs of one pass for sentence order: two segments that follow each other, half of them swapped.

    Runs of sentences are cut as in `next_sentence_pairs`; arguments are as there. One document suffices.
    """
    runs = _runs(corpus, tokens, seed, pass_number, documents, reuses=False)
    keys = corruption_keys(seed, pass_number, runs.first)
    first, middle, end = (corpus.sentence_starts[each] for each in (runs.first, runs.middle, runs.end))
    one, other = _cut((first, middle), (middle, end), tokens, keys)
    swapped = runs.coin
    return SegmentPairs(
        np.where(swapped, other[0], one[0]),
        np.where(swapped, other[1], one[1]),
        np.where(swapped, one[0], other[0]),
        np.where(swapped, one[1], other[1]),
        ~swapped,
    )


class _Runs(NamedTuple):
    """Runs of sentences of one document each, cut in two; all [runs].

    Args:
        first: its first sentence.
        middle: the first sentence of its second part.
        end: the sentence behind it.
        document: number of its document.
        target: tokens it was to have.
        coin: whether it is for a pair that is not in order.
    """

    first: Places
    middle: Places
    end: Places
    document: Places
    target: Places
    coin: NDArray[np.bool_]


def _runs(
    corpus: Sentences, tokens: int, seed: int, pass_number: int, documents: range | None, reuses: bool
) -> _Runs:
    """Cut documents into runs; with ``reuses`` a run whose coin fell begins the next one with its second part."""
    if tokens < 2:
        raise ValueError(f"two segments need two tokens at least, not {tokens}")
    asked = range(corpus.documents) if documents is None else documents
    bounds = corpus.document_sentences[asked.start : asked.stop + 1].tolist()
    begin, stop = bounds[0], bounds[-1]
    sentences = np.arange(begin, stop)
    keys, one = corruption_keys(seed, pass_number, sentences), np.ones(len(sentences), dtype=np.int64)
    shorter = 2 + (uniforms(keys, one, "shorter target") * (tokens - 1)).astype(np.int64)
    targets = np.where(uniforms(keys, one, "short or not") < SHORT_SHARE, shorter, tokens)
    coins = uniforms(keys, one, "next or not") < 0.5
    starts = corpus.sentence_starts[begin : stop + 1]
    # What a run needs to know of its first sentence, as Python numbers: the loop is one step for each run.
    until, halves, fallen = (
        (starts[:-1] + targets).tolist(),
        uniforms(keys, one, "end of A").tolist(),
        coins.tolist(),
    )
    places: list[int] = starts.tolist()
    firsts, middles, ends, numbers = list[int](), list[int](), list[int](), list[int]()
    for number, (first, last) in zip(asked, pairwise(bounds), strict=True):
        first, last = first - begin, last - begin
        while last - first >= 2:
            end = bisect_left(places, until[first], first + 2, last)
            middle = first + 1 + int(halves[first] * (end - first - 1))
            firsts.append(first)
            middles.append(middle)
            ends.append(end)
            numbers.append(number)
            first = middle if reuses and fallen[first] else end
    chosen = np.array(firsts, dtype=np.int64)
    return _Runs(
        chosen + begin,
        np.array(middles, dtype=np.int64) + begin,
        np.array(ends, dtype=np.int64) + begin,
        np.array(numbers, dtype=np.int64),
        targets[chosen],
        coins[chosen],
    )


def _cut(
    one: tuple[Places, Places], other: tuple[Places, Places], tokens: int, keys: Keys
) -> tuple[tuple[Places, Places], tuple[Places, Places]]:
    """Cut two segments to ``tokens`` together: the longer one first, then both alike."""
    lengths = one[1] - one[0], other[1] - other[0]
    # Where both must give way, the first keeps the odd token.
    first = np.minimum(lengths[0], np.maximum(tokens - lengths[1], (tokens + 1) // 2))
    second = np.minimum(lengths[1], tokens - first)
    return (
        _shortened(one[0], lengths[0], first, uniforms(keys, np.ones_like(first), "cut of A")),
        _shortened(other[0], lengths[1], second, uniforms(keys, np.ones_like(second), "cut of B")),
    )


def _shortened(
    starts: Places, lengths: Places, kept: Places, chance: NDArray[np.float64]
) -> tuple[Places, Places]:
    """Take what is too long away, in front or behind or from both ends."""
    starts = starts + (chance * (lengths - kept + 1)).astype(np.int64)
    return starts, starts + kept
