"""Numbers made of numbers: chains of the finaliser of splitmix64, for random decisions that depend on what they decide.

Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014. It is a bijection in which each bit of the
input moves each bit of the output with probability one half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = (1 << 64) - 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def word(number: int) -> Words:
    """Return the lowest 64 bits of any integer, uint64 [1]."""
    return np.array([number & _WORD], dtype=np.uint64)


def chained(*words: Words) -> Words:
    """Return ``f(... f(f(0, first), second) ..., last)``, one number for all of them in their order.

    Args:
        words: uint64 arrays that broadcast against each other.
    """
    key = np.zeros(1, dtype=np.uint64)
    for each in words:
        key = absorbed(key, each)
    return key


def absorbed(key: Words, words: Words) -> Words:
    """Return ``f(key, word)``, another key.

    Args:
        key: uint64.
        words: uint64, broadcast against it.
    """
    return finalised((key + _GAMMA) ^ finalised(words + _GAMMA))


def finalised(words: Words) -> Words:
    """Return the finaliser of splitmix64 of each word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(FACTORS[0])
    words = (words ^ (words >> np.uint64(27))) * np.uint64(FACTORS[1])
    return words ^ (words >> np.uint64(31))
