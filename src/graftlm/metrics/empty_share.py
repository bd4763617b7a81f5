"""Outputs that say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts


class EmptyShare:
    """Share of outputs without any character but spaces, 0 to 1."""

    name: ClassVar[str] = "empty_share"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``empty_share`` [...]."""
        return {"empty_share": sample.counts.sum("empty") / sample.counts.rows}
