"""Metrics of numbers agree with scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import metrics_of
from graftlm.scoring.sample import Rows

METRICS = metrics_of("numbers")


def measured(truth, guess, **options):
    sample = Rows.of(reference=np.asarray(truth, float), prediction=np.asarray(guess, float))
    return score(sample, (), METRICS, "pearson", **options)


@pytest.mark.parametrize("unit", [1e-97, 1e97])
def test_the_greatest_and_smallest_units_score_alike(unit, seed):
    truth = np.random.default_rng(seed).normal(size=(2, 40)) * 100
    one, other = (measured(truth[0] * unit, truth.sum(0) * unit, resamples=100) for unit in (1.0, unit))
    for name, power in (
        ("pearson", 0),
        ("spearman", 0),
        ("mean_squared_error", 2),
        ("root_mean_squared_error", 1),
    ):
        mine, theirs = (each.values[name] for each in (one, other))
        assert [theirs.value, theirs.low, theirs.high] == pytest.approx(
            [mine.value * unit**power, mine.low * unit**power, mine.high * unit**power], rel=1e-9, abs=0.0
        )


def test_agreement_with_scipy_and_scikit_learn(seed):
    random = np.random.default_rng(seed)
    for _ in range(1_000):
        rows = int(random.integers(3, 50))
        truth = np.round(random.normal(size=rows), int(random.integers(0, 4)))
        guess = np.round(truth + random.normal(size=rows), int(random.integers(0, 4)))
        if len(set(truth)) == 1 or len(set(guess)) == 1:
            continue
        shift, scale = random.normal() * 1e3, 10.0 ** random.integers(-3, 4)
        truth, guess = truth * scale + shift, guess * scale + shift
        ours = measured(truth, guess, resamples=1).values
        assert ours["pearson"].value == pytest.approx(stats.pearsonr(truth, guess).statistic, abs=1e-6)
        assert ours["spearman"].value == pytest.approx(stats.spearmanr(truth, guess).statistic, abs=1e-9)
        mean = reference.mean_squared_error(truth, guess)
        assert ours["mean_squared_error"].value == pytest.approx(mean, rel=1e-9, abs=1e-12)
        assert ours["root_mean_squared_error"].value == pytest.approx(mean**0.5, rel=1e-9, abs=1e-9)


def test_a_constant_answer_follows_nothing():
    scores = measured([1.0, 2.0, 4.0], [0.1, 0.1, 0.1], resamples=200)
    assert scores.headline.value == 0 == scores.values["spearman"].value
    assert scores.greater_is_better is True
    assert scores.labels == () and scores.confusion == []


def test_smaller_errors_are_better():
    sample = Rows.of(reference=np.array([1.0, 2.0]), prediction=np.array([1.0, 3.0]))
    scores = score(sample, (), METRICS, "mean_squared_error", resamples=100)
    assert scores.greater_is_better is False
    assert scores.headline.value == 0.5
