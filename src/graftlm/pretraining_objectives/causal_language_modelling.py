"""Causal language modelling: each token from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from transformers import PreTrainedConfig

from graftlm.config import Config
from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption.uniforms import Keys
from graftlm.data.features import IGNORED
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.models.base_model import mapped_class
from graftlm.models.families import usual_objective
from graftlm.models.vocabulary import Vocabulary
from graftlm.pretraining_objectives._examples import TOKENS, CorpusExamples, Cut, Made, surrounded, windows
from graftlm.pretraining_objectives._objective import (
    Complete,
    CrossEntropies,
    Longest,
    Reading,
    complete_itself,
    forward_tokens,
    only_read,
)
from graftlm.training.loop import Forward


class CausalLanguageModelling(Config):
    """``mean over tokens of -log p(token | the tokens before it in its window)``.

    Each window of a document begins with the token that begins texts, so that its first word is predicted too, and the
    last window of a document ends with the token that ends texts.
    """

    name: ClassVar[str] = "causal_language_modelling"
    learning_rate: ClassVar[float] = 1e-3
    forward: ClassVar[Forward] = staticmethod(forward_tokens)
    loss: ClassVar[type[CrossEntropies]] = CrossEntropies
    complete: ClassVar[Complete] = staticmethod(complete_itself)
    says_every_token: ClassVar[bool] = True
    longest_example: ClassVar[Longest] = staticmethod(only_read)
    measures: ClassVar[Mapping[str, str]] = {"token_accuracy": TOKENS}

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class with a head for the next token."""
        return "AutoModelForCausalLM"

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse a family that does not write, and a tokenizer without a token that begins texts."""
        if mapped_class(self.architecture(config), config) is None:
            raise ConfigurationError(
                f"a {config.model_type} model does not write: it has no head for the next token alone",
                where="objective.name",
                fix=f"choose objective.name={usual_objective(config)}, or a decoder such as GPT-2 or Llama",
            )
        if vocabulary.beginning is None or vocabulary.end is None:
            raise ConfigurationError("this tokenizer has no token that ends a text", where="base")

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return windows of documents; nothing about them is left to chance."""
        beginning, end = vocabulary.beginning, vocabulary.end
        assert beginning is not None and end is not None

        def cutting(number: int, short: bool) -> Cut:
            found = windows(corpus.document_starts, reading.length(short) - 1, special=1)
            starts, ends = found.starts[:, 0], found.ends[:, 0]
            document = np.searchsorted(corpus.document_starts, starts, side="right") - 1
            following = np.minimum(ends + 1, corpus.document_starts[document + 1])
            first = corpus.document_starts[document] == starts
            # Beside each window the token behind it, which its last one predicts, and the one before it.
            return Cut(
                np.stack([starts, ends, starts - ~first], axis=1),
                np.stack([ends, following, starts], axis=1),
                found.lengths,
            )

        def make(cut: Cut, texts: list[Ragged], keys: Keys, progress: float) -> Made:
            text, following, before = texts
            inputs = surrounded([text], ((beginning,), ()))
            targets = np.empty_like(inputs.values)
            targets[:-1] = inputs.values[1:]
            ends = np.full(len(text), end, dtype=np.int32)
            ends[following.lengths > 0] = following.values
            targets[inputs.starts[1:] - 1] = ends
            # What begins a window inside a document was predicted in the one before, with more to go on.
            targets[inputs.starts[:-1][before.lengths > 0]] = IGNORED
            return Made({"input_ids": inputs}, Ragged(targets, inputs.starts))

        return CorpusExamples(
            corpus, cutting, make, reading.seed, {"input_ids": vocabulary.padding["input_ids"]}
        )
