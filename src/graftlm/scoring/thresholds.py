"""From which probability on a label is given, and from which margin on none is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A label with fewer positive rows than this would get a threshold made of noise.
FEWEST_POSITIVE_ROWS = 10


def best_thresholds(references: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the threshold of each label, [labels]: give the label where its probability is at least that.

    A label with 10 positive rows or more gets the threshold of its own best F1; all others share the one that
    gives the best F1 over all decisions together (micro). Each lies midway between two neighbouring
    probabilities, so that no row lies on it. Of equal F1 the threshold nearest to 0.5 is taken.

    Args:
        references: whether each row has each label [rows, labels].
        probabilities: [rows, labels].
    """
    shared = _best_threshold(references.ravel(), probabilities.ravel())
    return np.array(
        [
            _best_threshold(truth, given) if truth.sum() >= FEWEST_POSITIVE_ROWS else shared
            for truth, given in zip(references.T, probabilities.T, strict=True)
        ]
    )


def _best_threshold(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    if not truth.any():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    hits = np.cumsum(truth[order])
    given = np.arange(1, len(ranked) + 1)
    f1 = 2 * hits / (given + truth.sum())
    # A threshold can only fall between different probabilities.
    below = np.append(ranked[1:], 0.0)
    possible = ranked > below
    if not possible.any():  # all probabilities are 0: nothing tells the rows apart
        return 0.5
    middle = (ranked + below) / 2
    best = f1[possible].max()
    candidates = middle[possible & (f1 >= best - 1e-12)]
    return float(candidates[np.argmin(np.abs(candidates - 0.5))])


def best_margin(margins: NDArray[np.float64], gains: NDArray[np.float64]) -> float:
    """Return the threshold that makes the score best where rows are answered whose margin is not above it.

    As in the evaluation script of SQuAD 2.0, with the threshold midway between two neighbouring margins, so that no
    row lies on it; of equally good thresholds the lowest is taken.

    Args:
        margins: by how much "no answer" beats the best answer of each row [rows].
        gains: what the score of each row gains from being answered [rows]; negative where it loses.
    """
    if not len(margins):
        return 0.0
    order = np.argsort(margins, kind="stable")
    ranked = margins[order]
    totals = np.concatenate([[0.0], np.cumsum(gains[order])])
    borders = np.concatenate([[ranked[0] - 1.0], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1] + 1.0]])
    # A threshold can only fall between different margins.
    possible = np.concatenate([[True], ranked[1:] > ranked[:-1], [True]])
    return float(borders[possible][np.argmax(totals[possible])])
