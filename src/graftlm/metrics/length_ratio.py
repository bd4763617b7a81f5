"""Length of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import ratio
from graftlm.scoring.generated_texts import GeneratedTexts


class LengthRatio:
    """Words of all outputs / words of all references, as BLEU counts them; 0 where references have none.

    1 is as long as wanted. No value to choose a model by: whatever comes near 1 may be nonsense.
    """

    name: ClassVar[str] = "length_ratio"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``length_ratio`` [...]."""
        sums = sample.counts.sum("bleu")
        return {"length_ratio": ratio(sums[..., 0], sums[..., 1])}
