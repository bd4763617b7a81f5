"""Precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import averages
from graftlm.scoring.confusion import Confusion


class Precision:
    """Of the rows predicted as a label, the share that has it: hits / predictions, 0 to 1.

    A label that is never predicted gets 0.
    """

    name: ClassVar[str] = "precision"
    greater_is_better: ClassVar[bool] = True

    def values(self, confusion: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label precision, each [...]."""
        return averages("precision", confusion.hits, confusion.predictions, confusion, labels)
