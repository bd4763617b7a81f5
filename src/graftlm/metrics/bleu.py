"""BLEU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts
from graftlm.scoring.sacrebleu_statistics import bleu


class Bleu:
    """Corpus BLEU by sacreBLEU, one reference a row, 0 to 1; sacreBLEU prints 100 times as much.

    Geometric mean of the precisions of 1 to 4 words, counted over all rows together, times
    exp(1 - words of references / words of outputs) where the outputs have fewer. A precision of 0 is smoothed ("exp");
    without any word in common BLEU is 0.
    Source: Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, 2002.
    """

    name: ClassVar[str] = "bleu"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {"bleu": True}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``bleu`` [...]."""
        return {"bleu": bleu(sample.counts.sum("bleu"))}
