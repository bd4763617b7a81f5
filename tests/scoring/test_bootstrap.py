from __future__ import annotations

import json

import numpy as np
import pytest

from graftlm.errors import ConfigurationError, DataError
from graftlm.metrics.accuracy import Accuracy
from graftlm.scoring import bootstrap
from graftlm.scoring.bootstrap import score
from graftlm.scoring.confusion import count
from graftlm.scoring.metric import metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Score, Scores

METRICS = metrics_of("labels")


@pytest.fixture
def random():
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    return np.random.default_rng(seed)


def sample(random, size, rows, right=0.8):
    truth = random.integers(0, size, rows)
    return truth, np.where(random.random(rows) < right, truth, random.integers(0, size, rows))


def names(size):
    return [f"label {index}" for index in range(size)]


def test_same_distribution_as_drawing_rows(random):
    truth, guess = sample(random, 4, 150)
    ours = score(
        count(truth, guess, 4),
        names(4),
        METRICS,
        "f1_macro",
        resamples=20_000,
        seed=int(random.integers(2**31)),
    )
    drawn = {name: [] for name in ours.values}
    for _ in range(6_000):
        rows = random.integers(0, len(truth), len(truth))
        confusion = count(truth[rows], guess[rows], 4)
        for metric in METRICS:
            for name, value in metric.values(confusion, names(4)).items():
                drawn[name].append(float(value))
    for name, numbers in drawn.items():
        spread = np.nanstd(numbers)
        low, high = np.nanquantile(numbers, [0.025, 0.975])
        # A 2.5 % quantile has a standard error of about 2.7 spread / sqrt(draws) = 0.035 spread; allow 6 of
        # them, plus one step of the value, which takes few distinct values.
        allowed = 0.21 * spread + 1 / 150
        assert abs(ours.values[name].low - low) < allowed, name
        assert abs(ours.values[name].high - high) < allowed, name


def test_coverage_of_the_accuracy_interval(random):
    true_accuracy, rows, simulations, covered = 0.85, 400, 400, 0
    for _ in range(simulations):
        truth = random.integers(0, 2, rows)
        guess = np.where(random.random(rows) < true_accuracy, truth, 1 - truth)
        interval = score(
            count(truth, guess, 2), ["no", "yes"], [Accuracy()], "accuracy", resamples=800, seed=1
        ).headline
        covered += interval.low <= true_accuracy <= interval.high
    # The binomial standard error at 0.945 over 400 simulations is 1.1 points; the window is about 3 of them.
    assert 0.91 <= covered / simulations <= 0.98


def test_perfect_predictions_have_no_width():
    truth = [0] * 30 + [1] * 3 + [2]
    scores = score(count(truth, truth, 4), names(4), METRICS, "accuracy")
    for name, value in scores.values.items():
        assert value == (Score(0, 0, 0) if name.endswith("[label 3]") else Score(1, 1, 1)), name


def test_order_of_rows_does_not_matter(random):
    truth, guess = sample(random, 6, 80)
    order = random.permutation(80)
    assert score(count(truth, guess, 6), names(6), METRICS, "accuracy") == score(
        count(truth[order], guess[order], 6), names(6), METRICS, "accuracy"
    )


def test_the_seed_decides(random):
    truth, guess = sample(random, 3, 90)
    first, again, other = (
        score(count(truth, guess, 3), names(3), METRICS, "accuracy", resamples=200, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first.values != other.values
    assert first.values["accuracy"].value == other.values["accuracy"].value


def test_a_wider_confidence_is_a_wider_interval(random):
    truth, guess = sample(random, 3, 200)
    wide, narrow = (
        score(count(truth, guess, 3), names(3), METRICS, "accuracy", confidence=confidence).headline
        for confidence in (0.99, 0.5)
    )
    assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high


def test_chunks_give_what_one_piece_gives(random, monkeypatch):
    truth, guess = sample(random, 5, 100)
    whole = score(count(truth, guess, 5), names(5), METRICS, "accuracy", resamples=101)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 60)
    assert score(count(truth, guess, 5), names(5), METRICS, "accuracy", resamples=101) == whole


@pytest.mark.parametrize("size", [77, 1_000])
def test_many_labels(random, size):
    truth, guess = sample(random, size, 3_000)
    scores = score(count(truth, guess, size), names(size), METRICS, "accuracy", resamples=300)
    assert len(scores.values) == 3 * size + 11
    assert scores.headline.low < scores.headline.value < scores.headline.high
    chunk = next(iter(bootstrap.draws(count(truth, guess, size), 10**6, seed=0)))
    assert chunk.counts.size <= bootstrap.NUMBERS_AT_ONCE
    assert (chunk.rows == 3_000).all()


def test_everything_is_recorded_and_read_again(random):
    truth, guess = sample(random, 3, 50)
    scores = score(
        count(truth, guess, 3), ["a", "b", "c"], METRICS, "f1_macro", confidence=0.9, resamples=100
    )
    assert (scores.rows, scores.confidence, scores.resamples, scores.labels) == (
        50,
        0.9,
        100,
        ("a", "b", "c"),
    )
    assert scores.primary == "f1_macro" and scores.greater_is_better
    assert np.sum(scores.confusion) == 50
    assert Scores.load(json.loads(json.dumps(scores.dump(), allow_nan=False))) == scores


def test_direction_comes_from_the_metric():
    class ErrorRate:
        name = "error_rate"
        kinds = ("labels",)
        directions = {"error_rate": False}  # noqa: RUF012

        def values(self, sample, labels):
            return {"error_rate": 1 - sample.hits.sum(axis=-1) / sample.rows}

    assert score(count([0, 1], [0, 0], 2), ["a", "b"], [ErrorRate()], "error_rate").greater_is_better is False


def test_refusals():
    with pytest.raises(DataError, match="there are no rows to score"):
        score(count([], [], 2), ["a", "b"], METRICS, "accuracy")
    with pytest.raises(ConfigurationError, match=r"'f1_makro'. Did you mean 'f1_macro'") as caught:
        score(count([0], [0], 2), ["a", "b"], METRICS, "f1_makro")
    assert "f1_macro" in caught.value.fix and "[a]" not in caught.value.fix
    with pytest.raises(ConfigurationError, match="confidence"):
        score(count([0], [0], 2), ["a", "b"], METRICS, "accuracy", confidence=95)
    with pytest.raises(ConfigurationError, match="resamples"):
        score(count([0], [0], 2), ["a", "b"], METRICS, "accuracy", resamples=0)


def test_torch_is_not_needed():
    import subprocess
    import sys

    code = (
        "import sys, graftlm.scoring.bootstrap; from graftlm.catalog import Catalog;"
        "[Catalog('metrics').get(name) for name in Catalog('metrics').names()];"
        "print([name for name in ('torch', 'transformers', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_of_one_cluster_are_drawn_together(random):
    """As in drawing clusters with replacement; rows that agree within them say less than as many independent ones."""
    clusters = np.repeat(np.arange(40), random.integers(1, 8, 40))
    hits = (random.random(40) < 0.6)[clusters].astype(np.float64)
    rows = Rows.of(exact_match=hits, f1=hits, answerable=np.ones(len(hits)))
    together = rows.together([f"context {number}" for number in clusters])
    metrics = metrics_of("answers")
    ours, alone = (
        score(each, (), metrics, "exact_match", resamples=20_000, seed=1).headline
        for each in (together, rows)
    )
    drawn = np.empty(6_000)
    for number in range(len(drawn)):
        chosen = random.integers(0, 40, 40)
        drawn[number] = np.concatenate([hits[clusters == each] for each in chosen]).mean()
    low, high = np.quantile(drawn, [0.025, 0.975])
    # As above: six standard errors of a quantile; the share takes many values.
    assert abs(ours.low - low) < 0.21 * drawn.std() and abs(ours.high - high) < 0.21 * drawn.std()
    assert ours.value == alone.value
    assert ours.high - ours.low > 1.3 * (alone.high - alone.low)
