"""Numbers that look random, and depend on nothing but what they decide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from graftlm.data.corruption.uniforms import corruption_keys, share_of, uniforms

BINS = 32
# Of a test that fails by chance once in a million runs.
UNLIKELY = 1e-6


def _even(cells: np.ndarray, kinds: int) -> None:
    assert stats.chisquare(np.bincount(cells, minlength=kinds)).pvalue > UNLIKELY


def _matrix(seed: int, examples: int, each: int, purpose: str = "x") -> np.ndarray:
    keys = corruption_keys(seed, 0, np.arange(examples))
    return uniforms(keys, np.full(examples, each), purpose).reshape(examples, each)


def test_each_number_is_uniform_and_neighbours_are_independent(seed: int) -> None:
    """Within an example, at one place of many examples, over seeds, passes and purposes."""
    numbers = _matrix(seed, 500, 200)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    cells = (numbers * BINS).astype(np.int64)
    _even(cells.ravel(), BINS)
    _even((cells[:, :-1] * BINS + cells[:, 1:]).ravel(), BINS**2)
    _even((cells[:-1] * BINS + cells[1:]).ravel(), BINS**2)
    others = {
        "purpose": _matrix(seed, 500, 200, "y"),
        "seed": _matrix(seed + 1, 500, 200),
        "pass": uniforms(corruption_keys(seed, 1, np.arange(500)), np.full(500, 200), "x").reshape(500, 200),
    }
    for other in others.values():
        _even((cells * BINS + (other * BINS).astype(np.int64)).ravel(), BINS**2)


def test_low_bits_are_random_too(seed: int) -> None:
    fine = (_matrix(seed, 300, 200) * 2.0**53).astype(np.int64)
    _even((fine % BINS).ravel(), BINS)
    # All of the 2 ** 53 fractions can come up, so few of 60,000 are equal.
    assert len(np.unique(fine)) == fine.size


def test_a_number_depends_on_its_key_only(seed: int) -> None:
    random = np.random.default_rng(seed)
    keys, counts = corruption_keys(seed, 2, random.integers(0, 10**9, 40)), random.integers(0, 9, 40)
    whole = np.split(uniforms(keys, counts, "x"), np.cumsum(counts)[:-1])
    chosen = random.permutation(40)[:17]
    longer = np.split(uniforms(keys[chosen], counts[chosen] + 3, "x"), np.cumsum(counts[chosen] + 3)[:-1])
    for row, numbers in zip(chosen, longer, strict=True):
        assert np.array_equal(whole[row], numbers[: counts[row]])


def test_keys_tell_seeds_passes_and_examples_apart() -> None:
    keys = [
        corruption_keys(seed, number, np.arange(100)) for seed in (0, 1, -1, 2**63) for number in range(3)
    ]
    assert len(np.unique(np.concatenate(keys))) == 1200


def test_shares_are_rounded_up_or_down_to_the_share_in_the_mean(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 30, 20_000)
    found = share_of(counts, 0.15, corruption_keys(seed, 0, np.arange(20_000)), "x")
    exact = counts * 0.15
    assert (np.abs(found - exact) < 1.0).all()
    assert abs((found - exact).mean()) < 4 * (found - exact).std() / np.sqrt(len(counts))
    assert share_of(counts, 1.0, corruption_keys(seed, 0, np.arange(20_000)), "x").tolist() == counts.tolist()


def test_as_many_counts_as_keys() -> None:
    with pytest.raises(ValueError, match="3 keys need as many counts"):
        uniforms(corruption_keys(1, 0, np.arange(3)), np.array([1, 2]), "x")
