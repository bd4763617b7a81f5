"""The mean of a score over all questions, and over those with and without an answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.sample import Rows


def answer_means(name: str, sample: Rows) -> dict[str, NDArray[np.float64]]:
    """Return the mean of a column, and where some questions have no answer also that of both kinds of questions.

    The two are ``HasAns`` and ``NoAns`` of the evaluation script of SQuAD 2.0; NaN where a resample holds none.
    """
    found = {name: sample.sum(name) / sample.rows}
    answerable = sample.columns["answerable"]
    if not answerable.all():
        for kind, rows in (("answerable", answerable), ("unanswerable", 1.0 - answerable)):
            count = sample.weights @ rows
            total = sample.weights @ (rows * sample.columns[name])
            found[f"{name}_{kind}"] = np.divide(
                total, count, out=np.full(count.shape, np.nan), where=count > 0
            )
    return found
