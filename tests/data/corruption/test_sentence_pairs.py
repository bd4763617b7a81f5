"""Next-sentence prediction and sentence order: what a pair is made of, and that half of them are in order."""

from __future__ import annotations

import numpy as np
import pytest

from graftlm.data.corruption.sentence_pairs import (
    SegmentPairs,
    Sentences,
    next_sentence_pairs,
    sentence_order_pairs,
)
from graftlm.errors import DataError

TOKENS = 61


def _corpus(seed: int, documents: int = 400, longest: int = 30, most: int = 40) -> Sentences:
    """Documents of no sentence up to ``longest``, sentences of up to ``most`` tokens."""
    random = np.random.default_rng(seed)
    sizes = random.integers(0, longest + 1, documents)
    sizes[:2] = 3
    lengths = random.integers(1, most + 1, sizes.sum())
    return Sentences(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([[0], np.cumsum(sizes)]))


def _near_half(values: np.ndarray) -> bool:
    return abs(values.mean() - 0.5) < 4.0 * 0.5 / np.sqrt(len(values))


def _document(corpus: Sentences, token: np.ndarray) -> np.ndarray:
    sentence = np.searchsorted(corpus.sentence_starts, token, side="right") - 1
    return np.searchsorted(corpus.document_sentences, sentence, side="right") - 1


def _same(one: SegmentPairs, other: SegmentPairs, chosen: np.ndarray | slice = slice(None)) -> bool:
    return all(np.array_equal(value, getattr(other, name)[chosen]) for name, value in vars(one).items())


def _within(corpus: Sentences, pairs: SegmentPairs, tokens: int) -> None:
    """Segments are in one document each, none is empty, and together they fit."""
    for starts, ends in ((pairs.a_starts, pairs.a_ends), (pairs.b_starts, pairs.b_ends)):
        assert (ends > starts).all()
        assert np.array_equal(_document(corpus, starts), _document(corpus, ends - 1))
    assert (pairs.a_ends - pairs.a_starts + pairs.b_ends - pairs.b_starts <= tokens).all()


def test_half_of_the_pairs_are_next_and_the_others_from_another_document(seed: int) -> None:
    corpus = _corpus(seed, 2000)
    pairs = next_sentence_pairs(corpus, TOKENS, seed, 0)
    assert len(pairs) > 5000
    _within(corpus, pairs, TOKENS)
    assert _near_half(pairs.in_order)
    same = _document(corpus, pairs.a_starts) == _document(corpus, pairs.b_starts)
    assert np.array_equal(same, pairs.in_order)
    assert (pairs.b_starts >= pairs.a_ends)[pairs.in_order].all()
    # Other documents come from everywhere, and from their midst.
    others = _document(corpus, pairs.b_starts[~pairs.in_order])
    assert len(np.unique(others)) > 0.6 * np.count_nonzero(np.diff(corpus.document_sentences))
    whole_sentences = np.isin(pairs.b_starts, corpus.sentence_starts).mean()
    assert whole_sentences > 0.5


def test_without_cutting_segments_are_whole_sentences_and_nothing_is_lost(seed: int) -> None:
    """Where all sentences are short: B begins where A ends, and the next pair with what was not used."""
    corpus = _corpus(seed, most=1)
    pairs = next_sentence_pairs(corpus, TOKENS, seed, 3)
    following = pairs.in_order
    assert np.array_equal(pairs.b_starts[following], pairs.a_ends[following])
    ends = np.where(following, pairs.b_ends, pairs.a_ends)
    documents = _document(corpus, pairs.a_starts)
    inside = documents[1:] == documents[:-1]
    assert np.array_equal(pairs.a_starts[1:][inside], ends[:-1][inside])
    # Of each document the first sentence is used, and all but the last at most.
    firsts, stops = corpus.document_sentences[:-1], corpus.document_sentences[1:]
    several = np.flatnonzero(stops - firsts >= 2)
    assert np.array_equal(np.unique(documents), several)
    for document in several:
        own = documents == document
        assert pairs.a_starts[own][0] == firsts[document]
        assert ends[own][-1] >= stops[document] - 1


def test_what_is_too_long_loses_on_the_longer_side_first() -> None:
    """Sentences of 10 and 200 tokens, of which 60 fit: the short one stays whole."""
    lengths = np.tile([10, 200], 300)
    corpus = Sentences(np.concatenate([[0], np.cumsum(lengths)]), np.arange(0, 601, 2))
    pairs = sentence_order_pairs(corpus, 60, 1, 0)
    sizes = np.stack([pairs.a_ends - pairs.a_starts, pairs.b_ends - pairs.b_starts])
    assert np.array_equal(np.sort(sizes, axis=0), np.tile([[10], [50]], 300))
    long_starts = np.where(pairs.in_order, pairs.b_starts, pairs.a_starts)
    cut_in_front = long_starts - corpus.sentence_starts[1:-1:2]
    # In front, behind, and anything between.
    assert cut_in_front.min() < 10 and cut_in_front.max() > 140
    assert cut_in_front.mean() == pytest.approx(75, abs=15)
    both_long = Sentences(np.array([0, 100, 200]), np.array([0, 2]))
    for number in range(20):
        odd = sentence_order_pairs(both_long, 61, number, 0)
        early, late = (odd.a_ends - odd.a_starts), (odd.b_ends - odd.b_starts)
        assert (int(early[0]), int(late[0])) == ((31, 30) if odd.in_order[0] else (30, 31))


def test_one_pair_in_ten_is_shorter(seed: int) -> None:
    corpus = Sentences(np.arange(200_001), np.array([0, 200_000]))
    pairs = sentence_order_pairs(corpus, 40, seed, 0)
    sizes = (pairs.a_ends - pairs.a_starts + pairs.b_ends - pairs.b_starts)[:-1]
    shorter = (sizes < 40).astype(float)
    expected = 0.1 * 38 / 39  # the shorter target is 2 to 40
    assert abs(shorter.mean() - expected) < 4.0 * shorter.std() / np.sqrt(len(shorter))
    assert set(sizes[sizes < 40].tolist()) > set(range(3, 38))


def test_sentence_order_swaps_half_of_the_neighbours(seed: int) -> None:
    corpus = _corpus(seed, 2000, most=5)
    pairs = sentence_order_pairs(corpus, TOKENS, seed, 0)
    _within(corpus, pairs, TOKENS)
    assert _near_half(pairs.in_order)
    assert np.array_equal(_document(corpus, pairs.a_starts), _document(corpus, pairs.b_starts))
    assert np.array_equal(pairs.a_starts < pairs.b_starts, pairs.in_order)


@pytest.mark.parametrize("make", [next_sentence_pairs, sentence_order_pairs])
def test_pairs_depend_on_seed_pass_and_document_only(seed: int, make: object) -> None:
    assert callable(make)
    corpus = _corpus(seed)
    whole = make(corpus, TOKENS, seed, 1)
    assert _same(whole, make(corpus, TOKENS, seed, 1))
    assert not _same(whole, make(corpus, TOKENS, seed, 2))
    assert not _same(whole, make(corpus, TOKENS, seed + 1, 1))
    part = make(corpus, TOKENS, seed, 1, range(100, 250))
    sentence = corpus.document_sentences[[100, 250]]
    first, stop = corpus.sentence_starts[sentence]
    earlier = np.minimum(whole.a_starts, whole.b_starts) if make is sentence_order_pairs else whole.a_starts
    chosen = np.flatnonzero((earlier >= first) & (earlier < stop))
    assert _same(part, whole, chosen)
    assert len(make(corpus, TOKENS, seed, 1, range(7, 7))) == 0


@pytest.mark.parametrize("sentences", [1, 100, 10**6])
def test_documents_in_parts_are_all_documents_once(seed: int, sentences: int) -> None:
    corpus = _corpus(seed)
    parts = list(corpus.parts(sentences))
    assert [number for part in parts for number in part] == list(range(corpus.documents))
    sizes = np.diff(corpus.document_sentences)
    assert all(len(part) == 1 or sizes[part.start : part.stop].sum() <= sentences for part in parts)
    assert list(Sentences(np.array([0]), np.array([0])).parts(sentences)) == [range(0)]


def test_one_document_is_not_enough_for_next_sentences_but_for_their_order() -> None:
    corpus = Sentences(np.arange(51), np.array([0, 0, 50, 50]))
    with pytest.raises(DataError, match=r"has 1\n.*keep documents apart"):
        next_sentence_pairs(corpus, TOKENS, 1, 0)
    pairs = sentence_order_pairs(corpus, TOKENS, 1, 0)
    assert len(pairs) >= 1
    assert not len(sentence_order_pairs(Sentences(np.array([0]), np.array([0])), TOKENS, 1, 0))
    with pytest.raises(ValueError, match="two tokens"):
        sentence_order_pairs(corpus, 1, 1, 0)
