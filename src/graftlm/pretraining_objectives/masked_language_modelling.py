"""Masked language modelling, alone or with pairs of segments as BERT and ALBERT were trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat
from transformers import PreTrainedConfig

from graftlm.config import Config
from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption.masking import Masking, mask_tokens
from graftlm.data.corruption.sentence_pairs import (
    SegmentPairs,
    Sentences,
    next_sentence_pairs,
    sentence_order_pairs,
)
from graftlm.data.corruption.uniforms import Keys
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.models.base_model import mapped_class
from graftlm.models.families import Family, family_of
from graftlm.models.pair_heads import has_pair_head
from graftlm.models.vocabulary import Template, Vocabulary
from graftlm.pretraining_objectives._examples import (
    PAIRS,
    TOKENS,
    CorpusExamples,
    Cut,
    Made,
    surrounded,
    windows,
)
from graftlm.pretraining_objectives._objective import (
    Complete,
    CrossEntropies,
    Longest,
    Reading,
    complete_itself,
    forward_tokens,
    only_read,
)
from graftlm.pretraining_objectives._usual import usual_for
from graftlm.training.loop import Forward

_SENTENCES_AT_ONCE = 1_000_000  # each needs some 200 bytes while pairs are made
_FEWEST = 4  # of a window with fewer tokens hardly one would be hidden
_INSTEAD: Mapping[Family, str] = {
    "encoder": "choose a base model whose tokenizer has a mask",
    "decoder": "choose objective.name=causal_language_modelling",
    "encoder_decoder": "choose objective.name=infilling, or span_corruption for T5 and its kind",
}

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class MaskedLanguageModelling(Config):
    """Hide tokens and predict them: ``mean over hidden tokens of -log p(token | what is left)``.

    With pairs, ``pair_weight`` times the cross-entropy of "does the second segment belong behind the first" is added,
    each divided by its own number (Devlin et al. 2019; sentence order: Lan et al. 2020).
    """

    name: ClassVar[str] = "masked_language_modelling"
    learning_rate: ClassVar[float] = 1e-3
    forward: ClassVar[Forward] = staticmethod(forward_tokens)
    complete: ClassVar[Complete] = staticmethod(complete_itself)
    says_every_token: ClassVar[bool] = False
    longest_example: ClassVar[Longest] = staticmethod(only_read)
    usual_for: ClassVar[Callable[[str], str | None]] = staticmethod(usual_for)
    """Base -> the objective that is meant where a recipe names none: this one is where nothing tells."""
    measures: ClassVar[Mapping[str, str]] = {"masked_accuracy": TOKENS, "pair_accuracy": PAIRS}

    mask_share: Share = 0.15
    """Expected share of the tokens that are hidden."""

    last_mask_share: Share | None = None
    """Share at the end of the run; from the beginning it changes linearly. None: it stays."""

    replacement: Literal["bert", "mask"] = "bert"
    """What stands where a token is hidden: bert (of ten the mask eight times, another token once, itself once), or
    always the mask."""

    unit: Literal["token", "word", "span"] = "token"
    """What is hidden as a whole: tokens, all tokens of a word, or spans of words (SpanBERT)."""

    pairs: Literal["none", "next_sentence", "sentence_order"] = "none"
    """Whether examples are two segments: next_sentence (half of the second ones are from another document) or
    sentence_order (half of the pairs are swapped). BERT and ALBERT have a head for it; in other encoders the head for
    tokens says it at the first token."""

    pair_weight: PositiveFloat = 1.0
    """How much a pair counts beside a hidden token. Where a step has few examples, 1 drowns what tokens teach."""

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class with a head for tokens; where pairs are asked for, one for pairs beside it if any."""
        both = None if self.pairs == "none" else mapped_class("AutoModelForPreTraining", config)
        return "AutoModelForPreTraining" if both and has_pair_head(both) else "AutoModelForMaskedLM"

    def loss(self) -> CrossEntropies:
        """Return both cross-entropies, that of pairs weighted."""
        return CrossEntropies({PAIRS: self.pair_weight})

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse a family without the heads, and a tokenizer without a mask."""
        if vocabulary.mask is None or config.is_encoder_decoder:
            lacks = (
                "reads one text and writes another"
                if config.is_encoder_decoder
                else "has no token for what is hidden"
            )
            raise ConfigurationError(
                f"a {config.model_type} model {lacks}, so that it cannot learn to say hidden tokens",
                where="objective.name",
                fix=_INSTEAD[family_of(config)],
            )
        if self.unit != "token" and vocabulary.continues_word is None:
            raise ConfigurationError(
                "the pieces of this tokenizer do not tell where words begin",
                where="objective.unit",
                fix="hide tokens (objective.unit=token), or choose another base model",
            )
        if self.pairs == "none":
            return
        if not (len(vocabulary.pair.parts) == 3 and vocabulary.pair.parts[0] and vocabulary.pair.parts[-1]):
            raise ConfigurationError(
                "this tokenizer does not put a token before, between and behind two texts",
                where="objective.pairs",
                fix="leave it out, or choose another base model",
            )

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return windows of documents, or pairs of segments, of which tokens are hidden anew in each pass."""
        assert vocabulary.mask is not None
        masking = Masking(
            vocabulary.mask,
            vocabulary.ordinary,
            self.unit,
            vocabulary.continues_word,
            *((0.1, 0.1) if self.replacement == "bert" else (0.0, 0.0)),
        )
        template = vocabulary.single if self.pairs == "none" else vocabulary.pair

        def cutting(number: int, short: bool) -> Cut:
            room = reading.length(short) - template.size
            if self.pairs == "none":
                return windows(corpus.document_starts, room, template.size, _FEWEST)
            return self._pairs(corpus, room, template.size, reading.seed, number)

        def make(cut: Cut, texts: list[Ragged], keys: Keys, progress: float) -> Made:
            last = self.mask_share if self.last_mask_share is None else self.last_mask_share
            share = self.mask_share + (last - self.mask_share) * progress
            masked = mask_tokens(surrounded(texts, template.parts), keys, share, masking)
            inputs = {"input_ids": masked.inputs}
            if "token_type_ids" in vocabulary.padding:
                inputs["token_type_ids"] = _segments(texts, template)
            return Made(inputs, masked.targets)

        return CorpusExamples(corpus, cutting, make, reading.seed, vocabulary.padding)

    def _pairs(self, corpus: TokenCorpus, room: int, special: int, seed: int, number: int) -> Cut:
        sentences = Sentences(corpus.sentence_starts, corpus.document_sentences)
        pairing = next_sentence_pairs if self.pairs == "next_sentence" else sentence_order_pairs

        def of(documents: range) -> Cut:
            found: SegmentPairs = pairing(sentences, room, seed, number, documents)
            starts = np.stack([found.a_starts, found.b_starts], axis=1)
            ends = np.stack([found.a_ends, found.b_ends], axis=1)
            return Cut(starts, ends, (ends - starts).sum(axis=1) + special, found.in_order)

        return Cut.joined(map(of, sentences.parts(_SENTENCES_AT_ONCE)))


def _segments(texts: list[Ragged], template: Template) -> Ragged:
    """Return the segment id of every token of each example."""
    parts, numbers = template.segments[::2], [each[0] for each in template.segments[1::2]]
    filled = [
        Ragged(np.full_like(text.values, number), text.starts)
        for text, number in zip(texts, numbers, strict=True)
    ]
    return surrounded(filled, parts)
