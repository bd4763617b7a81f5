"""chrF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts
from graftlm.scoring.sacrebleu_statistics import chrf


class Chrf:
    """Corpus chrF2 by sacreBLEU, one reference a row, 0 to 1; sacreBLEU prints 100 times as much.

    F of precision and recall of 1 to 6 characters without spaces, each the mean over these lengths; recall counts
    twice as much as precision.
    Source: Popovic, chrF: character n-gram F-score for automatic MT evaluation, 2015.
    """

    name: ClassVar[str] = "chrf"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {"chrf": True}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``chrf`` [...]."""
        return {"chrf": chrf(sample.counts.sum("chrf"))}
