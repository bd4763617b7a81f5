"""Masked language modelling: what is hidden, by what, and that nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.data.corruption.texts import (
    BEGIN,
    CONTINUES,
    END,
    MASK,
    ORDINARY,
    PADDING,
    SPECIAL,
    VOCABULARY,
    keys_of,
    near,
    random_texts,
    rows,
)

from graftlm.data.corruption.masking import LONGEST_SPAN, Masking, mask_tokens
from graftlm.data.features import IGNORED
from graftlm.data.ragged import Ragged

UNITS: tuple[Any, ...] = ("token", "word", "span")


def _masking(unit: Any, **changes: Any) -> Masking:
    return replace(Masking(MASK, ORDINARY, unit, CONTINUES), **changes)


def _examples(seed: int, count: int = 3000, longest: int = 60) -> Ragged:
    """Pairs of texts with special tokens and padding; a special one in the midst of a text now and then."""
    random = np.random.default_rng(seed)
    made: list[list[int]] = []
    for text in random_texts(seed, count, longest=longest):
        middle = int(random.integers(0, len(text) + 1))
        made.append(
            [BEGIN, *text[:middle], END, *text[middle:], END, *[PADDING] * int(random.integers(0, 4))]
        )
    return Ragged.of(made)


def _words(tokens: list[int]) -> list[list[int]]:
    """The places of each word, as a plain loop finds them."""
    words: list[list[int]] = []
    for place, token in enumerate(tokens):
        if not ORDINARY[token]:
            continue
        if place and ORDINARY[tokens[place - 1]] and CONTINUES[token]:
            words[-1].append(place)
        else:
            words.append([place])
    return words


@pytest.mark.parametrize("share", [0.0, 0.02, 0.15, 0.4, 1.0])
@pytest.mark.parametrize("unit", UNITS)
def test_the_share_is_what_was_asked_for(seed: int, unit: Any, share: float) -> None:
    examples = _examples(seed)
    masked = mask_tokens(examples, keys_of(seed, examples), share, _masking(unit))
    ordinary = ORDINARY[examples.values]
    hidden = masked.targets.values != IGNORED
    assert not (hidden & ~ordinary).any()
    if share in (0.0, 1.0):
        assert (hidden[ordinary] == (share == 1.0)).all()
        return
    # Examples are independent, their tokens are not.
    starts = examples.starts[:-1]
    surplus = np.add.reduceat(hidden.astype(float), starts) - share * np.add.reduceat(
        ordinary.astype(float), starts
    )
    assert near(surplus, 0.0)


@pytest.mark.parametrize("unit", UNITS)
def test_filling_the_targets_in_gives_the_examples(seed: int, unit: Any) -> None:
    examples = _examples(seed, 300)
    masked = mask_tokens(examples, keys_of(seed, examples), 0.3, _masking(unit))
    assert masked.inputs.starts.tolist() == masked.targets.starts.tolist() == examples.starts.tolist()
    hidden = masked.targets.values != IGNORED
    assert hidden.any() and not hidden.all()
    assert np.array_equal(np.where(hidden, masked.targets.values, masked.inputs.values), examples.values)
    assert np.array_equal(masked.inputs.values[~hidden], examples.values[~hidden])


@pytest.mark.parametrize("unit", UNITS)
def test_eight_of_ten_are_masked_and_nothing_special_stands_in(seed: int, unit: Any) -> None:
    examples = _examples(seed, 12_000)  # so many that a token never drawn is no chance: 290 e^-20
    masked = mask_tokens(examples, keys_of(seed, examples), 0.2, _masking(unit))
    hidden = masked.targets.values != IGNORED
    shown, true = masked.inputs.values[hidden], masked.targets.values[hidden]
    by_mask, by_itself = shown == MASK, shown == true
    others = shown[~by_mask & ~by_itself]
    assert (others >= SPECIAL).all()
    assert len(np.unique(others)) == VOCABULARY - SPECIAL
    if unit != "span":  # where tokens of a span share their fate, they are no independent draws
        chance = 1.0 / (VOCABULARY - SPECIAL)
        assert near(by_mask.astype(float), 0.8)
        assert near(by_itself.astype(float), 0.1 + 0.1 * chance)
    else:
        assert by_mask.mean() == pytest.approx(0.8, abs=0.03)
        assert by_itself.mean() == pytest.approx(0.1, abs=0.03)
    all_masked = mask_tokens(
        examples, keys_of(seed, examples), 0.2, _masking(unit, random_share=0.0, kept_share=0.0)
    )
    assert (all_masked.inputs.values[hidden] == MASK).all()
    assert np.array_equal(all_masked.targets.values, masked.targets.values)


def test_words_are_hidden_whole(seed: int) -> None:
    examples = _examples(seed, 400)
    masked = mask_tokens(examples, keys_of(seed, examples), 0.3, _masking("word"))
    for tokens, targets in zip(examples, masked.targets, strict=True):
        for word in _words(tokens):
            assert len({targets[place] != IGNORED for place in word}) == 1


def test_spans_are_whole_words_and_each_has_one_fate(seed: int) -> None:
    """Runs of hidden words are as long as SpanBERT's, and all masks, all other tokens, or all as they were."""
    examples = _examples(seed, 1500, longest=400)
    masked = mask_tokens(examples, keys_of(seed, examples), 0.15, _masking("span"))
    lengths: list[int] = []
    for tokens, shown, targets in zip(examples, masked.inputs, masked.targets, strict=True):
        words = _words(tokens)
        hidden = [targets[word[0]] != IGNORED for word in words]
        for word, is_hidden in zip(words, hidden, strict=True):
            assert all((targets[place] != IGNORED) == is_hidden for place in word)
        budget = 0.15 * len(words)
        assert abs(sum(hidden) - budget) < 1.0
        run: list[int] = []
        for word, is_hidden in zip([*words, []], [*hidden, False], strict=True):
            if is_hidden:
                run.extend(word)
                lengths[-1:] = [lengths[-1] + 1] if len(run) > len(word) else [*lengths[-1:], 1]
            elif run:
                masks = sum(shown[place] == MASK for place in run)
                assert masks in (0, len(run))
                run = []
    assert max(lengths) == LONGEST_SPAN
    # 3.8 in the mean, but for the last of each text, which is cut.
    assert 3.2 < np.mean(lengths) < 3.85


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("make", [_examples, random_texts], ids=["texts", "bare"])
def test_neighbours_in_the_batch_change_nothing(seed: int, make: Any, unit: Any) -> None:
    """Nor where no special token stands between an example and the next."""
    examples = make(seed, 200)
    keys, masking = keys_of(seed, examples), _masking(unit)
    whole = mask_tokens(examples, keys, 0.15, masking)
    chosen = np.random.default_rng(seed).permutation(len(examples))[:50]
    part = mask_tokens(rows(examples, chosen), keys[chosen], 0.15, masking)
    assert list(part.inputs) == list(rows(whole.inputs, chosen))
    assert list(part.targets) == list(rows(whole.targets, chosen))


@pytest.mark.parametrize("unit", UNITS)
def test_each_pass_hides_other_tokens(seed: int, unit: Any) -> None:
    examples = _examples(seed, 2000)
    hidden = [
        mask_tokens(examples, keys_of(seed, examples, number), 0.15, _masking(unit)).targets.values != IGNORED
        for number in (0, 1)
    ]
    ordinary = ORDINARY[examples.values]
    # A token hidden in one pass is as likely to be hidden in the other as any.
    again = hidden[1][hidden[0]].mean()
    assert again == pytest.approx(0.15, abs=0.02)
    assert hidden[1][ordinary].mean() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("unit", ("token", "word"))
def test_a_growing_share_goes_on_hiding_what_was_hidden(seed: int, unit: Any) -> None:
    examples = _examples(seed, 200)
    few, many = (
        mask_tokens(examples, keys_of(seed, examples), share, _masking(unit)).targets.values != IGNORED
        for share in (0.1, 0.3)
    )
    assert (many | ~few).all() and many.sum() > few.sum()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("texts", [[], [[]], [[BEGIN, END]], [[BEGIN, END], [], [PADDING]]])
def test_nothing_ordinary_is_left_alone(unit: Any, texts: list[list[int]]) -> None:
    examples = Ragged.of(texts)
    masked = mask_tokens(examples, keys_of(0, examples), 0.5, _masking(unit))
    assert list(masked.inputs) == texts
    assert all(set(row) <= {IGNORED} for row in masked.targets)


def test_what_cannot_be_meant_is_refused() -> None:
    examples = random_texts(0, 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mask_tokens(examples, keys_of(0, examples), 1.5, _masking("token"))
    with pytest.raises(ValueError, match="continue a word"):
        Masking(MASK, ORDINARY, "word")
    with pytest.raises(ValueError, match="no shares"):
        Masking(MASK, ORDINARY, random_share=0.7, kept_share=0.7)
    with pytest.raises(ValueError, match="ordinary"):
        Masking(SPECIAL, ORDINARY)
