"""Variety of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import ratio
from graftlm.scoring.generated_texts import GeneratedTexts


class Distinct:
    """Different n-grams / all n-grams of all outputs together, for single words and pairs, 0 to 1; 0 without any.

    It falls with the number of rows, so only outputs to the same rows can be compared. For the same reason a resample,
    which holds some rows twice and others not at all, has less variety than the sample: resamples are moved so that
    their mean is the value itself, and the interval tells how much it varies.
    Source: Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models, 2016; here without
    punctuation and in lower case.
    """

    name: ClassVar[str] = "distinct"
    kinds: ClassVar[tuple[str, ...]] = ("replies",)
    directions: ClassVar[Mapping[str, bool]] = {}
    recentred: ClassVar[bool] = True

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``distinct_1`` and ``distinct_2``, each [...]."""
        weights = sample.counts.weights
        return {
            name: ratio(ngrams.different(weights), weights @ ngrams.totals)
            for name, ngrams in (("distinct_1", sample.unigrams), ("distinct_2", sample.bigrams))
        }
