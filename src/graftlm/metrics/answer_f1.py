"""Overlap of the words of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.answer_means import answer_means
from graftlm.scoring.sample import Rows


class AnswerF1:
    """Mean over questions of the F1 between the words of the answer and of the most similar right one, 0 to 1.

    ``2 common / (given + wanted)``, words counted as often as they occur. See `graftlm.scoring.answer_texts`.
    """

    name: ClassVar[str] = "answer_f1"
    kinds: ClassVar[tuple[str, ...]] = ("answers",)
    directions: ClassVar[Mapping[str, bool]] = {"f1": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``f1``, where answers lack also those of both kinds of questions, each [...]."""
        return answer_means("f1", sample)
