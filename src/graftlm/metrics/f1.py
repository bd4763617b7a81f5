"""F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import averages
from graftlm.scoring.confusion import Confusion


class F1:
    """Harmonic mean of precision and recall: 2 hits / (references + predictions), 0 to 1.

    Macro F1 is the mean of the F1 of each label, not the F1 of the mean precision and the mean recall.
    """

    name: ClassVar[str] = "f1"
    greater_is_better: ClassVar[bool] = True

    def values(self, confusion: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label F1, each [...]."""
        both = confusion.references + confusion.predictions
        return averages("f1", 2 * confusion.hits, both, confusion, labels)
