"""Counting pairs of tokens, beside counting them one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.pretraining_objectives.corpora import corpus_of

from graftlm.data.corpus.cooccurrence import cooccurrences


def _documents(random: np.random.Generator) -> list[list[int]]:
    return [random.integers(0, 9, random.integers(1, 40)).tolist() for _ in range(random.integers(1, 12))]


def _counted(corpus: Any, window: int, **options: int) -> Counter[tuple[int, int]]:
    found = cooccurrences(corpus, window, **{"most_tokens": 10**9, **options})
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    return Counter(dict(zip(pairs, found.counts.tolist(), strict=True)))


@pytest.mark.parametrize("stretch", [1, 7, 1_000])
def test_every_pair_of_a_document_counts_once_and_none_across_documents(seed: int, stretch: int) -> None:
    random = np.random.default_rng(seed)
    documents, window = _documents(random), int(random.integers(1, 6))
    expected = Counter(
        (left, right)
        for tokens in documents
        for place, left in enumerate(tokens)
        for right in tokens[place + 1 : place + 1 + window]
    )
    assert _counted(corpus_of([[each] for each in documents]), window, stretch_tokens=stretch) == expected


def test_of_a_long_corpus_stretches_from_beginning_to_end_are_read() -> None:
    corpus = corpus_of([[[token] * 10] for token in range(20)])
    for most, expected in ((200, range(20)), (199, [*range(19)]), (59, range(0, 20, 4)), (7, [0])):
        found = _counted(corpus, 2, most_tokens=most, stretch_tokens=10)
        assert set(found) == {(token, token) for token in expected}, most


def test_documents_of_one_token_have_no_pairs() -> None:
    assert not _counted(corpus_of([[[3]], [[4]]]), 5)
