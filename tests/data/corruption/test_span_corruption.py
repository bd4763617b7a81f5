"""Span corruption and infilling: what is lost is known, and goes back where it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from tests.data.corruption.texts import MASK, SPECIAL, keys_of, near, numbered_texts, random_texts, rows

from graftlm.data.corruption.flat import ragged
from graftlm.data.corruption.infilling import infill, permute_sentences
from graftlm.data.corruption.span_corruption import SpanCorruption, corrupt_spans
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError

END = 1
FIRST = 10**6
DOWNWARDS = SpanCorruption(np.arange(FIRST, FIRST - 100, -1), END)
UPWARDS = SpanCorruption(np.arange(FIRST, FIRST + 100), END)


def _restored(inputs: list[int], targets: list[int], corruption: SpanCorruption) -> list[int]:
    """Put each span in the place of its sentinel, by a plain loop."""
    assert inputs[-1] == targets[-1] == END
    spans: dict[int, list[int]] = {}
    sentinels = corruption.sentinels.tolist()
    for token in targets[:-1]:
        if token in sentinels:
            assert token == sentinels[len(spans)]
            last = spans.setdefault(token, [])
        else:
            last.append(token)
    return list(itertools.chain.from_iterable(spans.get(token, [token]) for token in inputs[:-1]))


@pytest.mark.parametrize("corruption", [DOWNWARDS, UPWARDS], ids=["downwards", "upwards"])
def test_filling_the_spans_in_gives_the_text(seed: int, corruption: SpanCorruption) -> None:
    texts = random_texts(seed, 500)
    corrupted = corrupt_spans(texts, keys_of(seed, texts), corruption)
    for text, inputs, targets in zip(texts, corrupted.inputs, corrupted.targets, strict=True):
        assert _restored(inputs, targets, corruption) == text


def _reference_lengths(length: int, density: float, mean: float) -> tuple[int, int]:
    """As ``random_spans_helper`` of T5 counts them."""
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(round(noise / mean), 1)
    return length - noise + spans + 1, noise + spans + 1


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.15, 1.0), (0.3, 8.0), (0.5, 2.5)])
def test_lengths_are_those_of_the_reference(seed: int, density: float, mean: float) -> None:
    corruption = SpanCorruption(np.arange(FIRST, FIRST + 400), END, density, mean)
    lengths = np.arange(2, 500)
    expected = [_reference_lengths(length, density, mean) for length in lengths.tolist()]
    assert (
        list(zip(*(each.tolist() for each in corruption.lengths_of_results(lengths)), strict=True))
        == expected
    )
    texts = ragged(np.full(lengths.sum(), SPECIAL, dtype=np.int32), lengths)
    corrupted = corrupt_spans(texts, keys_of(seed, texts), corruption)
    assert corrupted.inputs.lengths.tolist() == [inputs for inputs, _ in expected]
    assert corrupted.targets.lengths.tolist() == [targets for _, targets in expected]
    for wanted in (8, 64, 128):
        longest = corruption.longest_text(wanted)
        assert (
            _reference_lengths(longest, density, mean)[0]
            <= wanted
            < _reference_lengths(longest + 1, density, mean)[0]
        )


def test_t5_reads_568_tokens_for_512() -> None:
    """As in the paper's own setting: inputs of 512 and targets of 114 from 568 tokens."""
    assert DOWNWARDS.longest_text(512) == 568
    inputs, targets = DOWNWARDS.lengths_of_results(np.array([568]))
    assert (inputs.tolist(), targets.tolist()) == ([512], [114])


def test_every_way_of_cutting_is_as_likely() -> None:
    """Six tokens of noise in two spans, four kept in two parts: 5 x 3 ways."""
    corruption = SpanCorruption(np.arange(FIRST, FIRST + 9), END, 0.6, 3.0)
    lengths = np.full(6000, 10)
    texts = ragged(np.tile(np.arange(SPECIAL, SPECIAL + 10, dtype=np.int32), 6000), lengths)
    found = [tuple(row) for row in corrupt_spans(texts, keys_of(0, texts), corruption).inputs]
    ways = sorted(set(found))
    assert len(ways) == 15
    assert stats.chisquare([found.count(way) for way in ways]).pvalue > 1e-6
    assert all(way[0] == SPECIAL and way[-2] >= FIRST for way in ways)


@pytest.mark.parametrize("texts", [[], [[]], [[5]], [[5], [], [6, 7]]])
def test_short_texts(texts: list[list[int]]) -> None:
    corrupted = corrupt_spans(Ragged.of(texts), keys_of(0, Ragged.of(texts)), DOWNWARDS)
    restored = [_restored(*pair, DOWNWARDS) for pair in zip(corrupted.inputs, corrupted.targets, strict=True)]
    assert restored == texts
    assert all((len(row) > 1) == (len(text) > 1) for row, text in zip(corrupted.targets, texts, strict=True))


def test_too_few_sentinels_are_told() -> None:
    texts = numbered_texts(0, 3, shortest=2000, longest=2100)
    with pytest.raises(ConfigurationError, match=r"loses 10\d spans.*100 sentinels"):
        corrupt_spans(texts, keys_of(0, texts), DOWNWARDS)
    with pytest.raises(ValueError, match="no text"):
        SpanCorruption(np.arange(3), END, noise_share=1.0)
    with pytest.raises(ValueError, match="no text leaves"):
        DOWNWARDS.longest_text(1)


def test_neighbours_change_nothing_and_passes_do(seed: int) -> None:
    texts = random_texts(seed, 200)
    keys = keys_of(seed, texts)
    chosen = np.random.default_rng(seed).permutation(200)[:50]
    whole, part = (
        corrupt_spans(texts, keys, UPWARDS),
        corrupt_spans(rows(texts, chosen), keys[chosen], UPWARDS),
    )
    assert list(part.inputs) == list(rows(whole.inputs, chosen))
    assert list(part.targets) == list(rows(whole.targets, chosen))
    filled = infill(texts, keys, MASK)
    assert list(infill(rows(texts, chosen), keys[chosen], MASK)) == list(rows(filled, chosen))
    other = keys_of(seed, texts, 1)
    assert list(corrupt_spans(texts, other, UPWARDS).inputs) != list(whole.inputs)
    assert list(infill(texts, other, MASK)) != list(filled)


def _lost(text: list[int], shown: list[int]) -> list[list[int]]:
    """What each mask stands for; tokens are numbered, so the ends of a span are known from its neighbours."""
    if not text:
        assert not shown
        return []
    before, spans = text[0] - 1, list[list[int]]()
    for place, token in enumerate(shown):
        if token == MASK:
            after = shown[place + 1] if place + 1 < len(shown) else text[-1] + 1
            assert after != MASK
            spans.append(list(range(before + 1, after)))
        else:
            assert shown[place - 1 : place] == [MASK] or token == before + 1
            before = token
    return spans


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_infilling_loses_a_share_and_each_mask_stands_for_what_is_gone(seed: int, share: float) -> None:
    texts = numbered_texts(seed, 1500, longest=300)
    surplus: list[float] = []
    for text, shown in zip(texts, infill(texts, keys_of(seed, texts), MASK, share), strict=True):
        spans = _lost(text, shown)
        filled, rest = [], iter(spans)
        for token in shown:
            filled += next(rest) if token == MASK else [token]
        assert filled == text
        lost = sum(map(len, spans))
        assert abs(lost - share * len(text)) < 1.0
        surplus.append(lost - share * len(text))
    assert near(np.array(surplus), 0.0)


def test_infilling_can_be_kept_from_lengthening_a_text(seed: int) -> None:
    texts = numbered_texts(seed, 400, shortest=40, longest=40)
    keys = keys_of(seed, texts)
    free, kept = infill(texts, keys, MASK, 0.03), infill(texts, keys, MASK, 0.03, longest=40)
    assert free.lengths.max() > 40 >= kept.lengths.max()
    for text, one, other in zip(texts, free, kept, strict=True):
        assert len(one) > 40 or one == other
        assert sum(map(len, _lost(text, one))) == sum(map(len, _lost(text, other)))


def test_spans_have_poisson_lengths(seed: int) -> None:
    """In texts so long that the last span of each, which is cut, does not count."""
    texts = numbered_texts(seed, 5, shortest=20_000, longest=20_000)
    shown = infill(texts, keys_of(seed, texts), MASK, 0.3)
    lengths = [len(span) for pair in zip(texts, shown, strict=True) for span in _lost(*pair)]
    counts = np.bincount(np.minimum(lengths, 8), minlength=9)
    expected = stats.poisson.pmf(np.arange(9), 3.0)
    expected[-1] = 1.0 - expected[:-1].sum()
    assert stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-6


@pytest.mark.parametrize(("share", "shown"), [(0.0, [[7, 8, 9], [], [5]]), (1.0, [[MASK], [], [MASK]])])
def test_nothing_and_all_can_be_lost(share: float, shown: list[list[int]]) -> None:
    texts = Ragged.of([[7, 8, 9], [], [5]])
    assert list(infill(texts, keys_of(0, texts), MASK, share)) == shown


def test_sentences_change_places_as_a_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = numbered_texts(seed, 300)
    sentences = Ragged.of(
        [
            np.diff([0, *sorted(random.choice(np.arange(1, size), min(size - 1, 4), replace=False)), size])
            if (size := len(text)) > 1
            else [size] * size
            for text in texts
        ]
    )
    keys = keys_of(seed, texts)
    moved = permute_sentences(texts, keys, sentences)
    changed = 0
    for text, lengths, shown in zip(texts, sentences, moved, strict=True):
        cut = np.split(np.array(text), np.cumsum(lengths)[:-1]) if text else []
        expected = {tuple(each.tolist()) for each in cut}
        while expected:
            first = next(each for each in expected if each[0] == shown[0])
            assert tuple(shown[: len(first)]) == first
            expected.remove(first)
            shown = shown[len(first) :]
            changed += bool(shown) and shown[0] < first[0]
        assert not shown
    assert changed > 100
    chosen = random.permutation(300)[:40]
    part = permute_sentences(rows(texts, chosen), keys[chosen], rows(sentences, chosen))
    assert list(part) == list(rows(moved, chosen))


def test_each_order_of_sentences_is_as_likely() -> None:
    texts = Ragged.of([[5, 6, 7]] * 3000)
    moved = permute_sentences(texts, keys_of(1, texts), Ragged.of([[1, 1, 1]] * 3000))
    found = [tuple(row) for row in moved]
    assert stats.chisquare([found.count(order) for order in itertools.permutations((5, 6, 7))]).pvalue > 1e-6


def test_what_cannot_be_meant_is_refused() -> None:
    texts = Ragged.of([[5, 6, 7]])
    with pytest.raises(ValueError, match="can lose"):
        infill(texts, keys_of(0, texts), MASK, share=-0.1)
    with pytest.raises(ValueError, match="add up"):
        permute_sentences(texts, keys_of(0, texts), Ragged.of([[1, 1]]))
