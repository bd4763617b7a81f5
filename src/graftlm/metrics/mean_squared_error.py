"""Mean squared error, and its root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.sample import Rows


class MeanSquaredError:
    """Mean of (prediction - reference)^2 over the rows, in squared units of the column; the root in its units."""

    name: ClassVar[str] = "mean_squared_error"
    kinds: ClassVar[tuple[str, ...]] = ("numbers",)
    directions: ClassVar[Mapping[str, bool]] = {
        "mean_squared_error": False,
        "root_mean_squared_error": False,
    }

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``mean_squared_error`` and ``root_mean_squared_error``, each [...]."""
        squares = (sample.columns["prediction"] - sample.columns["reference"]) ** 2
        mean = sample.weights @ squares / sample.rows
        return {"mean_squared_error": mean, "root_mean_squared_error": np.sqrt(mean)}
