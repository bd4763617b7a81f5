"""Infilling, as BART was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from transformers import PreTrainedConfig

from graftlm.config import Config
from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption.infilling import infill, permute_sentences
from graftlm.data.corruption.uniforms import Keys
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.models.families import usual_objective
from graftlm.models.vocabulary import Template, Vocabulary
from graftlm.pretraining_objectives._examples import (
    TOKENS,
    CorpusExamples,
    Cut,
    Made,
    Places,
    surrounded,
    windows,
)
from graftlm.pretraining_objectives._objective import (
    Complete,
    CrossEntropies,
    Reading,
    complete_itself,
    forward_tokens,
)
from graftlm.training.loop import Forward

_FEWEST = 4  # of a shorter window hardly anything would be left


class Infilling(Config):
    """Read a text in which a mask stands for each span, write all of it: ``mean over tokens of -log p(token | ...)``.

    Spans have 3 tokens in the mean, some none (Lewis et al. 2020, section 2.2).
    """

    name: ClassVar[str] = "infilling"
    learning_rate: ClassVar[float] = 1e-3
    forward: ClassVar[Forward] = staticmethod(forward_tokens)
    loss: ClassVar[type[CrossEntropies]] = CrossEntropies
    complete: ClassVar[Complete] = staticmethod(complete_itself)
    says_every_token: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, str]] = {"token_accuracy": TOKENS}

    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of the tokens that are taken out."""

    permute_sentences: bool = False
    """Whether the sentences of what is read also stand in another order."""

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class of models that read and write."""
        return "AutoModelForSeq2SeqLM"

    def longest_example(self, vocabulary: Vocabulary, tokens: int) -> int:
        """See `graftlm.pretraining_objectives._objective.PretrainingObjective`."""
        template = vocabulary.single
        return int(self._sizes(np.array([tokens - template.size]), template)[0])

    def _sizes(self, texts: Places, template: Template) -> Places:
        """Return the tokens of examples of so long texts: what is read is shorter by what the masks hide."""
        read = np.ceil(texts * (1.0 - self.mask_share * 2 / 3)).astype(np.int64)
        return read + template.size + len(template.parts[0]) + texts + 1

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse a network that does not write, and a tokenizer without a mask."""
        lacks = (
            f"a {config.model_type} model has no decoder beside its encoder"
            if not config.is_encoder_decoder
            else "this tokenizer has no mask and end tokens"
            if vocabulary.mask is None or vocabulary.end is None
            else ""
        )
        if lacks:
            raise ConfigurationError(
                lacks,
                where="objective.name",
                fix="choose a BART architecture, for instance base=bart-tiny, or "
                f"objective.name={usual_objective(config)}",
            )

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return windows of documents, which lose other spans in each pass."""
        mask, end, template = vocabulary.mask, vocabulary.end, vocabulary.single
        assert mask is not None and end is not None

        def cutting(number: int, short: bool) -> Cut:
            found = windows(corpus.document_starts, reading.length(short) - template.size, 0, _FEWEST)
            return Cut(found.starts, found.ends, self._sizes(found.lengths, template))

        def make(cut: Cut, texts: list[Ragged], keys: Keys, progress: float) -> Made:
            text = texts[0]
            read = permute_sentences(text, keys, _sentences(corpus, cut)) if self.permute_sentences else text
            read = infill(read, keys, mask, self.mask_share, longest=reading.tokens - template.size)
            return Made(
                {"input_ids": surrounded([read], template.parts)},
                # As in fine-tuning, the decoder writes what the tokenizer puts before a text, too: <s> with BART.
                surrounded([text], (template.parts[0], (end,))),
            )

        padding = {"input_ids": vocabulary.padding["input_ids"]}
        return CorpusExamples(corpus, cutting, make, reading.seed, padding)


def _sentences(corpus: TokenCorpus, cut: Cut) -> Ragged:
    """Return how many tokens of each sentence a window has."""
    starts, ends = cut.starts[:, 0], cut.ends[:, 0]
    first = np.searchsorted(corpus.sentence_starts, starts, side="right")
    last = np.searchsorted(corpus.sentence_starts, ends, side="left")
    rows = [
        np.diff(np.concatenate([[start], corpus.sentence_starts[one:other], [end]])).astype(np.int64)
        for start, end, one, other in zip(starts, ends, first, last, strict=True)
    ]
    return Ragged.of(rows)
