"""Perplexity of references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.generated_texts import GeneratedTexts


class Perplexity:
    """exp(- sum of log p / number of tokens) over all tokens of all references; from 1, lower is better.

    The number of equally likely tokens that would be as hard to choose among. Models with other tokens cannot be
    compared by it.
    """

    name: ClassVar[str] = "perplexity"
    kinds: ClassVar[tuple[str, ...]] = ("texts", "replies")
    directions: ClassVar[Mapping[str, bool]] = {"perplexity": False}

    def values(self, sample: GeneratedTexts, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``perplexity`` [...]; nothing where nobody asked the model about the references."""
        if "tokens" not in sample.counts.columns:
            return {}
        tokens, total = sample.counts.sum("tokens"), sample.counts.sum("log_probability")
        mean = np.divide(-total, tokens, out=np.full_like(total, np.nan), where=tokens > 0)
        return {"perplexity": np.exp(mean)}
