"""Recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import averages
from graftlm.scoring.confusion import Confusion


class Recall:
    """Of the rows that have a label, the share that was found: hits / references, 0 to 1.

    A label that is predicted but has no references gets 0.
    """

    name: ClassVar[str] = "recall"
    greater_is_better: ClassVar[bool] = True

    def values(self, confusion: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label recall, each [...]."""
        return averages("recall", confusion.hits, confusion.references, confusion, labels)
