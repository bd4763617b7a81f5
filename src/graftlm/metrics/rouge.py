"""ROUGE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts
from graftlm.scoring.rouge import ROUGE


class Rouge:
    """Mean over rows of the F1 of output and reference, 0 to 1; many papers print 100 times as much.

    Of words (1), pairs of words (2), the longest common subsequence (L), and of those of sentences, which stand on
    lines of their own (Lsum). Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
    """

    name: ClassVar[str] = "rouge"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = dict.fromkeys(ROUGE, True)

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum``, each [...]."""
        means = sample.counts.sum("rouge") / sample.counts.rows[..., np.newaxis]
        return {name: means[..., place] for place, name in enumerate(ROUGE)}
