"""How often the acceptable sentence of a minimal pair is the more probable one.

A paradigm's accuracy is the mean over its pairs of 1 (the good sentence is more probable), 0 (the bad one) or one half
(a tie: a model that gives both the same knows nothing, which is worth as much as a guess). The overall accuracy is the
mean of the paradigms, as BLiMP has it (Warstadt et al., 2020, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

TIE = 1e-6
"""Log-likelihoods that differ by less than this share of their size differ by rounding, if at all: sentences that are
the same tokens to the model come out of different batches."""
_WORTH = np.array([1.0, 0.5, 0.0])


@dataclass(frozen=True, eq=False)
class PairOutcomes:
    """How many pairs of each paradigm were won, tied and lost.

    A resample draws the pairs of each paradigm anew, as many as it has: paradigms are chosen, pairs are a sample.

    Args:
        counts: won, tied, lost [..., paradigms, 3]; leading axes are resamples.
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, good: Sequence[NDArray[np.float64]], bad: Sequence[NDArray[np.float64]]) -> PairOutcomes:
        """Compare log-likelihoods, one array for each paradigm.

        Raises:
            ValueError: a paradigm has no pair, or a log-likelihood is not finite.
        """
        return cls(np.stack([_outcomes(*each) for each in zip(good, bad, strict=True)]))

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Of each paradigm, 0 to 1 [..., paradigms]."""
        return self.counts @ _WORTH / self.counts.sum(axis=-1)

    @property
    def numbers_per_draw(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return self.counts.size

    @property
    def num_rows(self) -> int:
        """See `graftlm.scoring.sample.Sample`."""
        return int(self.counts.sum())

    def draw(self, generator: np.random.Generator, resamples: int) -> PairOutcomes:
        """See `graftlm.scoring.sample.Sample`."""
        pairs = self.counts.sum(axis=-1)
        shares = self.counts / pairs[:, None]
        return PairOutcomes(generator.multinomial(pairs, shares, size=(resamples, len(pairs))))


@dataclass(frozen=True)
class MinimalPairAccuracy:
    """Accuracy of all paradigms, of each phenomenon and of each paradigm.

    Args:
        phenomena: name -> positions of its paradigms.
    """

    phenomena: Mapping[str, Sequence[int]]
    name: ClassVar[str] = "accuracy"
    kinds: ClassVar[tuple[str, ...]] = ()
    directions: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    def values(self, sample: PairOutcomes, labels: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy``, ``phenomenon[...]`` and ``accuracy[...]`` [...]; ``labels`` are the paradigms' names."""
        accuracies = sample.accuracies
        return {
            "accuracy": accuracies.mean(axis=-1),
            **{
                f"phenomenon[{name}]": accuracies[..., list(of)].mean(axis=-1)
                for name, of in self.phenomena.items()
            },
            **{f"accuracy[{name}]": accuracies[..., number] for number, name in enumerate(labels)},
        }


def _outcomes(good: NDArray[np.float64], bad: NDArray[np.float64]) -> NDArray[np.int64]:
    if not len(good) or not (np.isfinite(good).all() and np.isfinite(bad).all()):
        raise ValueError("minimal pairs need log-likelihoods that are finite, and at least one pair")
    difference = good - bad
    tied = np.abs(difference) <= TIE * (np.abs(good) + np.abs(bad))
    return np.array([((difference > 0) & ~tied).sum(), tied.sum(), ((difference < 0) & ~tied).sum()])
