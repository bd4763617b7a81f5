"""Masked language modelling: some tokens are hidden, and the model says which they were.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019, section 3.1;
whole words as in its repository; spans after Joshi et al., "SpanBERT", 2020, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corruption.flat import Counts, owners, ragged, sums
from graftlm.data.corruption.spans import scattered
from graftlm.data.corruption.uniforms import Keys, share_of, uniforms
from graftlm.data.features import IGNORED
from graftlm.data.ragged import Ragged

LONGEST_SPAN, END_OF_SPAN = 10, 0.2
"""Words of a span follow a geometric distribution that ends there: 3.8 in the mean."""
_SPAN_LENGTHS = (1.0 - (1.0 - END_OF_SPAN) ** np.arange(1, LONGEST_SPAN + 1)) / (
    1.0 - (1.0 - END_OF_SPAN) ** LONGEST_SPAN
)

Unit = Literal["token", "word", "span"]


@dataclass(frozen=True, eq=False)
class Masking:
    """What is hidden, and what stands in its place.

    Args:
        mask_token: stands where a token is hidden.
        ordinary: bool [vocabulary], the tokens that may be hidden and that may stand in for others; special ones and
            padding are not among them.
        unit: what is hidden as a whole: single tokens, words, or spans of words.
        continues_word: bool [vocabulary], the tokens that go on with the word of the token before them. Needed where
            words are hidden. What follows a token that is not ordinary begins a word anyhow.
        random_share: of the hidden tokens, replaced by any ordinary one instead of the mask.
        kept_share: of the hidden tokens, left as they are.
    """

    mask_token: int
    ordinary: NDArray[np.bool_]
    unit: Unit = "token"
    continues_word: NDArray[np.bool_] | None = None
    random_share: float = 0.1
    kept_share: float = 0.1

    def __post_init__(self) -> None:
        if not (self.random_share >= 0.0 <= self.kept_share and self.random_share + self.kept_share <= 1.0):
            raise ValueError(
                f"{self.random_share} random and {self.kept_share} kept are no shares of hidden tokens"
            )
        if self.unit != "token" and self.continues_word is None:
            raise ValueError(f"hiding by {self.unit} needs to know which tokens continue a word")
        if self.ordinary[self.mask_token]:
            raise ValueError(f"the mask {self.mask_token} cannot be an ordinary token")


@dataclass(frozen=True)
class Masked:
    """Examples of which tokens are hidden.

    Args:
        inputs: as they were, but for the hidden tokens.
        targets: the hidden tokens at their places, `IGNORED` at all others; of the same lengths.
    """

    inputs: Ragged
    targets: Ragged


def mask_tokens(examples: Ragged, keys: Keys, share: float, masking: Masking) -> Masked:
    """Hide a share of the ordinary tokens of each example.

    Tokens and words are chosen independently of each other, each with probability ``share``, so a short example may
    have no target: a minimum of one would hide more than the share, and an example without targets weighs nothing in
    a loss that is divided by their number. Of spans, each example gets as many words as its share, rounded at random;
    none is longer than 10 words as long as there is room to keep them apart. With a growing share a token once hidden
    stays hidden (not so in spans).

    Whether a hidden token becomes the mask, another one or itself is decided for each by itself, in spans for each span
    (both as published). Every decision depends on the key of its example only.

    Args:
        examples: tokens, special ones included.
        keys: uint64 [examples], see `corruption_keys`.
        share: expected share of ordinary tokens that are hidden, 0 to 1; it may change from step to step.
        masking: see there.

    Raises:
        ValueError: a share that is none.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"the share of hidden tokens lies between 0 and 1, not at {share}")
    tokens, lengths = examples.values, examples.lengths
    ordinary = masking.ordinary[tokens]
    if masking.unit == "token":
        hidden = ordinary & (uniforms(keys, lengths, "hidden tokens") < share)
        fate = uniforms(keys, lengths, "fate of tokens")
    else:
        assert masking.continues_word is not None
        begins = _begins_word(ordinary, masking.continues_word[tokens], lengths)
        words = sums(begins.astype(np.int64), lengths)
        # What is not ordinary belongs to no word; whichever it gets here does not count.
        word = np.maximum(np.cumsum(begins) - 1, 0)
        if masking.unit == "word":
            chosen = uniforms(keys, words, "hidden words") < share
            hidden = np.append(chosen, False)[word] & ordinary
            fate = uniforms(keys, lengths, "fate of tokens")
        else:
            chosen, fates = _hidden_spans(keys, words, share)
            hidden, fate = np.append(chosen, False)[word] & ordinary, np.append(fates, 1.0)[word]
    targets = np.where(hidden, tokens, np.int32(IGNORED))
    inputs = np.where(hidden, np.int32(masking.mask_token), tokens)
    inputs = np.where(hidden & (fate < masking.kept_share), tokens, inputs)
    other = hidden & (fate >= masking.kept_share) & (fate < masking.kept_share + masking.random_share)
    stand_ins = np.flatnonzero(masking.ordinary).astype(np.int32)
    chance = uniforms(keys, lengths, "tokens that stand in")[other]
    inputs[other] = stand_ins[(chance * len(stand_ins)).astype(np.int64)]
    return Masked(ragged(inputs, lengths), ragged(targets, lengths))


def _begins_word(
    ordinary: NDArray[np.bool_], continues: NDArray[np.bool_], lengths: Counts
) -> NDArray[np.bool_]:
    example = owners(lengths)
    follows = np.zeros(len(ordinary), dtype=np.bool_)
    follows[1:] = ordinary[:-1] & (example[1:] == example[:-1])
    return ordinary & ~(continues & follows)


def _hidden_spans(keys: Keys, words: Counts, share: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether each word is hidden, and the number that decides the fate of its span."""
    budgets = share_of(words, share, keys, "number of hidden words")
    drawn = np.searchsorted(_SPAN_LENGTHS, uniforms(keys, budgets, "lengths of spans"), side="right") + 1
    spans = scattered(drawn, budgets, budgets, words, keys)
    number = spans.numbers()
    fates = np.append(uniforms(keys, spans.counts, "fate of spans"), 1.0)
    return number >= 0, fates[number]
