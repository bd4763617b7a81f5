"""Span corruption, as T5 was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from transformers import PreTrainedConfig

from graftlm.config import Config
from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption import span_corruption
from graftlm.data.corruption.uniforms import Keys
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.models.families import usual_objective
from graftlm.models.vocabulary import Vocabulary
from graftlm.pretraining_objectives._examples import TOKENS, CorpusExamples, Cut, Made, windows
from graftlm.pretraining_objectives._objective import (
    Complete,
    CrossEntropies,
    Reading,
    complete_itself,
    forward_tokens,
)
from graftlm.training.loop import Forward

_FEWEST = 8  # a shorter window would lose a single token


class SpanCorruption(Config):
    """Read a text without some spans, write the spans: ``mean over what is written of -log p(token | before, text)``.

    A sentinel stands for each span, in what is read and before the span in what is written (Raffel et al. 2020, 3.1.4).
    """

    name: ClassVar[str] = "span_corruption"
    learning_rate: ClassVar[float] = 1e-3
    forward: ClassVar[Forward] = staticmethod(forward_tokens)
    loss: ClassVar[type[CrossEntropies]] = CrossEntropies
    complete: ClassVar[Complete] = staticmethod(complete_itself)
    says_every_token: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, str]] = {"token_accuracy": TOKENS}

    noise_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the tokens that are taken out."""

    mean_span_tokens: Annotated[float, Field(ge=1.0)] = 3.0
    """Tokens of a span in the mean."""

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class of models that read and write."""
        return "AutoModelForSeq2SeqLM"

    def longest_example(self, vocabulary: Vocabulary, tokens: int) -> int:
        """See `graftlm.pretraining_objectives._objective.PretrainingObjective`."""
        corruption = self._corruption(vocabulary)
        longest = np.array([corruption.longest_text(tokens)])
        corruption.require_sentinels(longest)
        read, written = corruption.lengths_of_results(longest)
        return int(read[0] + written[0])

    def _corruption(self, vocabulary: Vocabulary) -> span_corruption.SpanCorruption:
        assert vocabulary.end is not None
        return span_corruption.SpanCorruption(
            np.array(vocabulary.sentinels), vocabulary.end, self.noise_share, self.mean_span_tokens
        )

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse a tokenizer without sentinels."""
        if not vocabulary.sentinels or vocabulary.end is None:
            raise ConfigurationError(
                "this tokenizer has no tokens <extra_id_0>, <extra_id_1> ... that stand for spans",
                where="objective.name",
                fix="choose a T5 architecture, for instance base=t5-tiny, or "
                f"objective.name={usual_objective(config)}",
            )

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return windows of documents, which lose other spans in each pass."""
        corruption = self._corruption(vocabulary)

        def cutting(number: int, short: bool) -> Cut:
            room = corruption.longest_text(reading.length(short))
            found = windows(corpus.document_starts, room, 0, _FEWEST)
            inputs, targets = corruption.lengths_of_results(found.lengths)
            return Cut(found.starts, found.ends, inputs + targets)

        def make(cut: Cut, texts: list[Ragged], keys: Keys, progress: float) -> Made:
            corrupted = span_corruption.corrupt_spans(texts[0], keys, corruption)
            return Made({"input_ids": corrupted.inputs}, corrupted.targets)

        padding = {"input_ids": vocabulary.padding["input_ids"]}
        return CorpusExamples(corpus, cutting, make, reading.seed, padding)
