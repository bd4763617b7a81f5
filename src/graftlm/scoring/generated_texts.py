"""Texts that a model wrote, beside those that were wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graftlm.errors import DataError
from graftlm.scoring.ngram_rows import NgramRows
from graftlm.scoring.rouge import rouge_scores, rouge_signature
from graftlm.scoring.sacrebleu_statistics import bleu_statistics, chrf_statistics, sacrebleu_signatures
from graftlm.scoring.sample import Rows
from graftlm.scoring.writing_systems import Scoring, scoring_of, words_of

__all__ = ["GeneratedTexts", "Scoring", "scoring_of", "signatures"]


@dataclass(frozen=True, eq=False)
class GeneratedTexts:
    """What the metrics of texts are functions of; the texts themselves are read once, however many resamples.

    Args:
        counts: of each row ``bleu`` and ``chrf`` (see `graftlm.scoring.sacrebleu_statistics`), ``rouge`` (see
            `graftlm.scoring.rouge`), ``empty`` and ``cut`` (0 or 1), and where they are known
            ``log_probability`` (natural logarithm) and ``tokens`` of the reference.
        unigrams: which words occur in which output.
        bigrams: which two words in a row occur in which output.
    """

    counts: Rows
    unigrams: NgramRows
    bigrams: NgramRows

    @classmethod
    def compare(
        cls,
        texts: Sequence[str],
        references: Sequence[str],
        scoring: Scoring,
        cut: Sequence[bool] | NDArray[np.bool_],
        log_probabilities: NDArray[np.float64] | None,
        reference_tokens: NDArray[np.float64] | None,
    ) -> GeneratedTexts:
        """Return the sample in which every row counts once.

        Args:
            texts: outputs of the model.
            references: what was wanted, one for each output.
            scoring: which words they are compared by.
            cut: whether an output hit the length limit before it ended.
            log_probabilities: natural logarithm of the probability that the model gave each whole reference; None
                where nobody computed it.
            reference_tokens: tokens of each reference as the model reads it; None where nobody counted them.

        Raises:
            DataError: there are no rows, or not one of everything for each.
        """
        columns = [references, cut, log_probabilities, reference_tokens]
        if any(column is not None and len(column) != len(texts) for column in columns):
            raise DataError(f"{len(texts)} texts need as many references, cuts, probabilities and tokens")
        if not len(texts):
            raise DataError("there are no rows to score", fix="give a split with at least one row")
        counts = {
            "bleu": bleu_statistics(texts, references, scoring),
            "chrf": chrf_statistics(texts, references),
            "rouge": rouge_scores(texts, references, scoring),
            "empty": np.array([not text.strip() for text in texts]),
            "cut": np.asarray(cut, np.bool_),
        }
        if log_probabilities is not None and reference_tokens is not None:
            counts |= {"log_probability": log_probabilities, "tokens": reference_tokens}
        words = [words_of(text, scoring) for text in texts]
        return cls(Rows.of(**counts), NgramRows.of(words, 1), NgramRows.of(words, 2))

    @property
    def numbers_per_draw(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return self.counts.numbers_per_draw

    @property
    def num_rows(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return self.counts.num_rows

    def draw(self, generator: np.random.Generator, resamples: int) -> GeneratedTexts:
        """See `graftlm.scoring.sample.Sample`."""
        return replace(self, counts=self.counts.draw(generator, resamples))


def signatures(scoring: Scoring) -> dict[str, str]:
    """Return ``bleu``, ``chrf`` and ``rouge`` -> how they were computed: versions, tokenisation, stemming."""
    return {**sacrebleu_signatures(scoring), "rouge": rouge_signature(scoring)}
