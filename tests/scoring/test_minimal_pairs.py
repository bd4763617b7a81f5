from __future__ import annotations

import math

import numpy as np
import pytest

from graftlm.scoring.bits_per_byte import bits_per_byte
from graftlm.scoring.bootstrap import score
from graftlm.scoring.minimal_pairs import MinimalPairAccuracy, PairOutcomes

NAMES = ["one", "two", "three"]
METRIC = MinimalPairAccuracy({"pair": [0, 1], "single": [2]})


def outcomes(*won_tied_lost: tuple[int, int, int]) -> PairOutcomes:
    difference = [np.repeat([1.0, 0.0, -1.0], each) for each in won_tied_lost]
    return PairOutcomes.of(
        [each - 20.0 for each in difference], [np.full(len(each), -20.0) for each in difference]
    )


def test_paradigms_weigh_alike_and_a_tie_is_worth_one_half():
    sample = outcomes((3, 0, 1), (0, 2, 0), (1, 1, 6))
    scores = score(sample, NAMES, [METRIC], "accuracy", resamples=50)
    values = {name: each.value for name, each in scores.values.items()}
    assert values == {
        "accuracy": pytest.approx((0.75 + 0.5 + 1.5 / 8) / 3),
        "phenomenon[pair]": pytest.approx(0.625),
        "phenomenon[single]": pytest.approx(1.5 / 8),
        "accuracy[one]": 0.75,
        "accuracy[two]": 0.5,
        "accuracy[three]": pytest.approx(1.5 / 8),
    }
    assert scores.rows == 14
    assert (scores.values["accuracy[two]"].low, scores.values["accuracy[two]"].high) == (0.5, 0.5)


def test_rounding_is_a_tie_and_more_than_rounding_is_none():
    good, bad = np.array([-40.0, -40.0, -40.0]), np.array([-40.000001, -40.001, -39.999])
    assert PairOutcomes.of([good], [bad]).counts.tolist() == [[1, 1, 1]]


def test_intervals_are_those_of_drawing_pairs_within_paradigms(seed):
    random = np.random.default_rng(seed)
    counts = [tuple(random.multinomial(40, [0.6, 0.1, 0.3])) for _ in NAMES]
    ours = score(outcomes(*counts), NAMES, [METRIC], "accuracy", resamples=20_000, seed=seed).headline
    worth = [np.repeat([1.0, 0.5, 0.0], each) for each in counts]
    drawn = [np.mean([random.choice(each, 40).mean() for each in worth]) for _ in range(4_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Six standard errors of a quantile of 4,000 draws.
    allowed = 6 * 2.7 * np.std(drawn) / math.sqrt(4_000)
    assert abs(ours.low - low) < allowed and abs(ours.high - high) < allowed


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        PairOutcomes.of([np.array([value])], [np.array([-1.0])])
    with pytest.raises(ValueError, match="at least one pair"):
        PairOutcomes.of([np.zeros(0)], [np.zeros(0)])


def test_bits_per_byte(seed):
    """A model that finds each of 256 bytes equally probable needs 8 bits for each, however they are cut into tokens."""
    num_bytes = int(np.random.default_rng(seed).integers(1, 1_000))
    assert bits_per_byte(num_bytes * math.log(256), num_bytes) == pytest.approx(8.0)
    nats, sizes = np.array([math.log(2), 6 * math.log(4)]), np.array([1.0, 3.0])
    np.testing.assert_allclose(bits_per_byte(nats, sizes), [1.0, 4.0])
