"""Recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import Counts, averages


class Recall:
    """Of the rows that have a label, the share that was found: hits / references, 0 to 1.

    A label that is predicted but has no references gets 0.
    """

    name: ClassVar[str] = "recall"
    kinds: ClassVar[tuple[str, ...]] = ("labels", "label_sets", "tags", "spans")
    directions: ClassVar[Mapping[str, bool]] = {
        "recall_macro": True,
        "recall_micro": True,
        "recall_weighted": True,
    }

    def values(self, sample: Counts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label recall, each [...]."""
        return averages("recall", sample.hits, sample.references, sample, labels)
