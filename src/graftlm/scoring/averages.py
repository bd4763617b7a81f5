"""The four ways in which one ratio per label becomes values with names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Counts: whole numbers from a confusion matrix, whole floats from weighted rows.
Numbers = NDArray[np.int64] | NDArray[np.float64]


class Counts(Protocol):
    """What was right, true and predicted, by label; a confusion matrix and weighted rows both tell it."""

    @property
    def hits(self) -> NDArray[Any]:
        """Items of each label that were predicted right [..., K]."""
        ...

    @property
    def references(self) -> NDArray[Any]:
        """Items of each label in the references [..., K]."""
        ...

    @property
    def predictions(self) -> NDArray[Any]:
        """Items of each label in the predictions [..., K]."""
        ...


def ratio(numerator: Numbers, denominator: Numbers) -> NDArray[np.float64]:
    """Return numerator / denominator, and 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def averages(
    name: str,
    numerator: Numbers,
    denominator: Numbers,
    counts: Counts,
    labels: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Return macro, micro, weighted and per-label values of numerator / denominator.

    - ``<name>_macro``: mean over the labels that occur in references or predictions; a label of train that occurs in
      neither says nothing here, so it counts neither for nor against
    - ``<name>_micro``: sum of numerators / sum of denominators
    - ``<name>_weighted``: mean weighted by the number of references
    - ``<name>[label]``: the ratio of one label; NaN where the label does not occur

    Source: the definitions of scikit-learn's ``precision_recall_fscore_support`` with ``labels=None``, for one label a
    row. For sets of labels scikit-learn averages over all columns and counts an absent label as 0; that differs.

    Args:
        name: precision, recall or f1.
        numerator: [..., K].
        denominator: [..., K].
        counts: where they come from.
        labels: K label names.
    """
    each = ratio(numerator, denominator)
    references = counts.references
    occurs = (references + counts.predictions) > 0
    # A label that does not occur has numerator 0, so it adds nothing to the sum.
    values = {
        f"{name}_macro": ratio(each.sum(axis=-1), occurs.sum(axis=-1)),
        f"{name}_micro": ratio(numerator.sum(axis=-1), denominator.sum(axis=-1)),
        f"{name}_weighted": ratio((each * references).sum(axis=-1), references.sum(axis=-1)),
    }
    known = np.where(occurs, each, np.nan)
    values.update({f"{name}[{label}]": known[..., index] for index, label in enumerate(labels)})
    return values
