"""Precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import Counts, averages


class Precision:
    """Of the rows predicted as a label, the share that has it: hits / predictions, 0 to 1.

    A label that is never predicted gets 0.
    """

    name: ClassVar[str] = "precision"
    kinds: ClassVar[tuple[str, ...]] = ("labels", "label_sets", "tags", "spans")
    directions: ClassVar[Mapping[str, bool]] = {
        "precision_macro": True,
        "precision_micro": True,
        "precision_weighted": True,
    }

    def values(self, sample: Counts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label precision, each [...]."""
        return averages("precision", sample.hits, sample.predictions, sample, labels)
