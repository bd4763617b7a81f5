"""Whether an exported network still is the one that was trained: outputs, decisions and the primary metric."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftlm.data.dataset import Split
from graftlm.data.features import Outputs
from graftlm.predictor import Predictor
from graftlm.recipe import BATCH_TOKENS
from graftlm.scoring.paired import paired_difference
from graftlm.scoring.scores import Score, Scores

MOST_ROWS = 2_000
"""More rows are not compared: the paired interval scores all of them a few hundred times."""


@dataclass(frozen=True)
class Answers:
    """What a network says about rows.

    Args:
        outputs: of each example.
        predictions: of each row.
        scores: of all rows.
    """

    outputs: Outputs
    predictions: list[Any]
    scores: Scores


def answers_of(predictor: Predictor, split: Split, batch_tokens: int = BATCH_TOKENS) -> Answers:
    """Return what a network says about labelled rows.

    Raises:
        DataError: a row holds nothing to compare with.
    """
    features = predictor.encode(split)
    predictor.task.targets(split, features, predictor.learnt)
    outputs = predictor.outputs(split, features, batch_tokens)
    predictions = list(predictor.task.decode(outputs, split, features, predictor.learnt))
    return Answers(outputs, predictions, predictor.task.score(predictions, split, predictor.learnt))


def parity(predictor: Predictor, split: Split, trained: Answers, exported: Answers) -> dict[str, Any]:
    """Return how an exported network compares with the one that was trained, as JSON values.

    ``largest_difference`` and ``mean_difference`` are of outputs (logits), ``decided_alike`` is a share of rows, None
    where a decision is a number. ``significant_loss``: the whole paired interval of the metric is on the worse side.
    """
    apart = np.concatenate(
        [np.abs(one - other).ravel() for one, other in zip(trained.outputs, exported.outputs, strict=True)]
    )
    decisions = [[predictor.task.decision(each) for each in some.predictions] for some in (trained, exported)]
    alike = [one == other for one, other in zip(*decisions, strict=True)]
    change = _change(predictor, split, trained, exported)
    better = trained.scores.greater_is_better
    return {
        "rows": len(split),
        "largest_output": float(max(np.abs(each).max() for each in trained.outputs)),
        "largest_difference": float(apart.max()),
        "mean_difference": float(apart.mean()),
        "decided_alike": None if decisions[0][0] is None else sum(alike) / len(alike),
        "metric": trained.scores.primary,
        "trained": asdict(trained.scores.headline),
        "exported": asdict(exported.scores.headline),
        "change": asdict(change),
        "significant_loss": change.high < 0 if better else change.low > 0,
    }


def _change(predictor: Predictor, split: Split, trained: Answers, exported: Answers) -> Score:
    """Return exported minus trained in the primary metric, paired by rows; undefined is NaN, not the 0 of a score."""

    def values_of(rows: NDArray[np.int64]) -> tuple[float, float]:
        some = split.take(rows.tolist())
        one, other = (
            predictor.task.score([each.predictions[row] for row in rows], some, predictor.learnt, resamples=1)
            for each in (trained, exported)
        )
        if one.primary in one.undefined or other.primary in other.undefined:
            return math.nan, math.nan
        return one.headline.value, other.headline.value

    return paired_difference(values_of, len(split))
