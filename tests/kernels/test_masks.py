"""The random bits themselves. Bounds are six standard errors: one false alarm in 500 million looks."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from tests.kernels.random_bits import bases_of
from torch import Tensor

from graftlm.kernels.masks import kept_features, kept_keys, threshold

TOKENS, FEATURES = 300, 256


def _hash(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def _bits(row: int, place: int) -> int:
    pair = _hash((row + place // 2 * 0x9E3779B9) % 2**32)
    return pair >> 16 if place % 2 else pair % 2**16


def test_masks_are_the_published_formula_in_whole_numbers(seed: int) -> None:
    probability, bases = 0.3, bases_of(seed, [5])
    limit = round(0.3 * 2**16)
    unsigned = [base % 2**32 for base in bases.tolist()]
    hidden = [[_bits(b, j) >= limit for j in range(9)] for b in unsigned]
    assert kept_features(bases, 9, probability).tolist() == hidden
    of_rows = [[_hash((b + (h + 1) * 0x85EBCA6B) % 2**32) for b in unsigned] for h in range(3)]
    attention = [[[_bits(r, j) >= limit for j in range(5)] for r in rows] for rows in of_rows]
    assert kept_keys(bases, 3, 5, probability).tolist() == attention


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_was_asked(probability: float, seed: int) -> None:
    bases = bases_of(seed, [TOKENS])
    for kept in (kept_features(bases, FEATURES, probability), kept_keys(bases, 2, 200, probability)):
        error = math.sqrt(probability * (1 - probability) / kept.numel())
        assert abs(1 - kept.double().mean().item() - probability) < 6 * error


def _assert_unrelated(one: Tensor, other: Tensor) -> None:
    pair = torch.stack([one.double().flatten(), other.double().flatten()])
    assert abs(torch.corrcoef(pair)[0, 1].item()) < 6 / math.sqrt(pair.shape[1])


def test_masks_of_different_decisions_are_unrelated(seed: int) -> None:
    def hidden(**changes: int | list[int]) -> Tensor:
        return kept_features(bases_of(changes.pop("seed", seed), [TOKENS], **changes), FEATURES, 0.3)

    plain = hidden()
    for other in (hidden(site=1), hidden(step=2), hidden(rows=[1]), hidden(seed=seed + 1)):
        _assert_unrelated(plain, other)
    for lag in (1, 2, 16):
        _assert_unrelated(plain[:, lag:], plain[:, :-lag])
        _assert_unrelated(plain[lag:], plain[:-lag])


def test_attention_masks_of_heads_queries_and_keys_are_unrelated(seed: int) -> None:
    bases = bases_of(seed, [TOKENS])
    kept = kept_keys(bases, 4, TOKENS, 0.3)
    for lag in (1, 2, 3):
        _assert_unrelated(kept[lag:], kept[:-lag])
    for lag in (1, 2, 16):
        _assert_unrelated(kept[:, lag:], kept[:, :-lag])
        _assert_unrelated(kept[..., lag:], kept[..., :-lag])
    _assert_unrelated(kept[0], kept[0].T)
    _assert_unrelated(kept[0, :, :FEATURES], kept_features(bases, FEATURES, 0.3))


@pytest.mark.parametrize("probability", [-0.1, 1.0, 2.0, math.nan])
def test_probabilities_out_of_range_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        threshold(probability)


def test_a_probability_next_to_one_still_has_a_threshold() -> None:
    assert threshold(math.nextafter(1.0, 0.0)) == 2**16 - 1


def test_the_default_device_at_import_does_not_matter() -> None:
    """What is imported late may be so within a model that is built on another device."""
    program = """
import torch
torch.set_default_device("meta")
from graftlm.kernels.masks import kept_features
print(int(kept_features(torch.zeros(3, dtype=torch.int32, device="cpu"), 500, 0.5).sum()) > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
