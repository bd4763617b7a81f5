from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.kernels.random_bits import bases_of

from graftlm.kernels import example_keys, site_bases, token_keys


def test_keys_are_those_of_the_first_release() -> None:
    """A run that was begun is resumed with the same masks: these numbers must never change."""
    examples = example_keys(7, 3, [0, 5])
    tokens = token_keys(examples, [2, 1])
    assert examples.tolist() == [7626615659495744633, 11854802930268039520]
    assert tokens.tolist() == [16395382020897064454, 1692156875510094087, 2109627620794873678]
    assert site_bases(tokens, 4).tolist() == [-1352416452, 692908374, 593660462]


def test_a_key_says_nothing_of_the_batch(seed: int) -> None:
    whole = token_keys(example_keys(seed, 2, [8, 3, 9]), [4, 0, 6])
    parts = [token_keys(example_keys(seed, 2, [row]), [length]) for row, length in ((8, 4), (9, 6))]
    assert whole.tolist() == np.concatenate(parts).tolist()


def test_every_part_of_a_key_counts(seed: int) -> None:
    keys = [
        example_keys(seed, 2, [3]),
        example_keys(seed + 1, 2, [3]),
        example_keys(seed, 3, [3]),
        example_keys(seed, 2, [4]),
        example_keys(seed, 2, [3], forward_pass=1),
        example_keys(3, 2, [seed + 5]),
        example_keys(-seed - 1, 2, [-3]),
    ]
    assert len({int(key[0]) for key in keys}) == len(keys)


def test_keys_are_distinct_and_spread_evenly(seed: int) -> None:
    tokens = token_keys(example_keys(seed, 1, range(1000)), np.full(1000, 100))
    assert len(np.unique(tokens)) == len(tokens)
    bases = site_bases(tokens, 1).numpy().view(np.uint32)
    counts = np.bincount(bases >> np.uint32(26), minlength=64)
    expected = len(tokens) / 64
    # Chi-square with 63 degrees of freedom: mean 63, standard deviation 11; six of them away.
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 6 * 11.3


def test_one_bit_more_changes_half_the_bits(seed: int) -> None:
    rows = np.arange(4000, dtype=np.int64) + seed
    plain = example_keys(seed, 1, rows)
    for bit in (0, 1, 31, 62):
        changed = plain ^ example_keys(seed, 1, rows ^ (np.int64(1) << np.int64(bit)))
        bits = np.unpackbits(changed.view(np.uint8).reshape(-1, 8), axis=1)
        # 64 means of 4000 coins each: standard error 0.0079; six of them away.
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.0079


def test_bases_are_bit_patterns_of_the_tokens(seed: int) -> None:
    bases = bases_of(seed, [3, 2])
    assert bases.dtype == torch.int32 and bases.shape == (5,)
    assert bases_of(seed, []).shape == (0,)


@pytest.mark.parametrize("lengths", [[1], [1, -1], [1, 2, 3]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="2 examples need as many lengths"):
        token_keys(example_keys(1, 1, [0, 1]), lengths)
