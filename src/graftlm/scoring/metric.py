"""What every metric answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.confusion import Confusion


class Metric(Protocol):
    """A number, or several, of a confusion matrix. One file per metric in ``graftlm/metrics``."""

    name: ClassVar[str]
    greater_is_better: ClassVar[bool]

    def values(self, confusion: Confusion, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return name of the value -> [...], one number per leading axis of ``confusion``.

        A ratio with denominator zero is 0, as scikit-learn has it with ``zero_division=0``. NaN means that
        the sample says nothing at all about the value (the label occurs neither in references nor
        predictions): a resample is then left out of the interval; for the sample itself 0 is reported.
        """
        ...
