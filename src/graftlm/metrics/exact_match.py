"""Exact match of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.answer_means import answer_means
from graftlm.scoring.sample import Rows


class ExactMatch:
    """Share of questions whose answer is, normalised, letter by letter one of the right ones, 0 to 1."""

    name: ClassVar[str] = "exact_match"
    kinds: ClassVar[tuple[str, ...]] = ("answers",)
    directions: ClassVar[Mapping[str, bool]] = {"exact_match": True}

    def values(self, sample: Rows, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``exact_match``, where answers lack also those of both kinds of questions, each [...]."""
        return answer_means("exact_match", sample)
