"""Outputs that were cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts


class CutShare:
    """Share of outputs that hit the length limit before they ended, 0 to 1."""

    name: ClassVar[str] = "cut_share"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``cut_share`` [...]."""
        return {"cut_share": sample.counts.sum("cut") / sample.counts.rows}
