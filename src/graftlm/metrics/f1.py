"""F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import Counts, averages


class F1:
    """Harmonic mean of precision and recall: 2 hits / (references + predictions), 0 to 1.

    Macro F1 is the mean of the F1 of each label, not the F1 of the mean precision and the mean recall.
    """

    name: ClassVar[str] = "f1"
    kinds: ClassVar[tuple[str, ...]] = ("labels", "label_sets", "tags", "spans")
    directions: ClassVar[Mapping[str, bool]] = {"f1_macro": True, "f1_micro": True, "f1_weighted": True}

    def values(self, sample: Counts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return macro, micro, weighted and per-label F1, each [...]."""
        both = sample.references + sample.predictions
        return averages("f1", 2 * sample.hits, both, sample, labels)
