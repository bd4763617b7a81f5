"""The chain of random numbers is the published one."""

from __future__ import annotations

import random

import numpy as np

from graftlm.splitmix import absorbed, chained, finalised, word


def test_the_finaliser_gives_the_numbers_of_splitmix64() -> None:
    """The first three outputs of the reference implementation (Vigna, 2015) for seed 0, whose state grows by gamma."""
    gamma = 0x9E3779B97F4A7C15
    states = np.concatenate([word(turn * gamma) for turn in (1, 2, 3)])
    assert [hex(number) for number in finalised(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_a_chain_absorbs_its_words_in_their_order(seed: int) -> None:
    draw = random.Random(seed)
    first, second = (word(draw.getrandbits(80)) for _ in range(2))
    assert chained(first, second) == absorbed(absorbed(word(0), first), second) != chained(second, first)
    several = np.concatenate([first, second])
    assert (
        chained(first, several) == np.concatenate([chained(first, each) for each in (first, second)])
    ).all()
    assert word(-1) == word(2**64 - 1)
