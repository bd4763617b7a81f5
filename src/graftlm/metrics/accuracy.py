"""Accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.averages import ratio
from graftlm.scoring.confusion import Confusion


class Accuracy:
    """Share of rows whose predicted label is the reference: sum of hits / rows, 0 to 1."""

    name: ClassVar[str] = "accuracy"
    greater_is_better: ClassVar[bool] = True

    def values(self, confusion: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` [...]."""
        return {"accuracy": ratio(confusion.hits.sum(axis=-1), confusion.rows)}
