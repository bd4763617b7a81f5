"""Random numbers for whole batches, each a function of what it decides.

    key of an example = f(seed, pass, example)
    number            = f(key of the example, purpose, position), its upper 53 bits as a fraction

f is that of `graftlm.splitmix`. So a batch needs a few array operations, where a generator for each example would cost
several times what is done with its numbers; and neither the batch nor the order of calls is part of a number.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graftlm.data.corruption.flat import positions_within
from graftlm.splitmix import absorbed, chained, word

Keys = NDArray[np.uint64]


def corruption_keys(seed: int, pass_number: int, examples: ArrayLike) -> Keys:
    """Return the key of each example in one pass over the data.

    Args:
        seed: of the run; any integer, of which the lowest 64 bits count.
        pass_number: each pass over the data corrupts it anew.
        examples: [examples] integers, the same ones for the same examples in every pass.

    Returns:
        uint64 [examples].
    """
    numbers = np.asarray(examples, dtype=np.int64).reshape(-1).view(np.uint64)
    return chained(word(seed), word(pass_number), numbers)


def uniforms(keys: Keys, counts: NDArray[np.int64], purpose: str) -> NDArray[np.float64]:
    """Return numbers that are uniform in [0, 1), as many for each example as it asks for.

    Args:
        keys: uint64 [examples].
        counts: int64 [examples], zero or more.
        purpose: what they decide. Numbers for different purposes have nothing to do with each other.

    Returns:
        float64 [sum of counts], example after example.

    Raises:
        ValueError: as many counts as keys are needed.
    """
    if counts.shape != keys.shape:
        raise ValueError(f"{len(keys)} keys need as many counts, not {list(counts.shape)}")
    salt = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    salted = absorbed(keys, word(salt))
    words = absorbed(np.repeat(salted, counts), positions_within(counts).view(np.uint64))
    return np.multiply(words >> np.uint64(11), 2.0**-53, dtype=np.float64)


def share_of(counts: NDArray[np.int64], share: float, keys: Keys, purpose: str) -> NDArray[np.int64]:
    """Return a share of each count as an integer, rounded up or down at random: in the mean the share itself.

    Args:
        counts: int64 [examples].
        share: 0 to 1.
        keys: uint64 [examples].
        purpose: see `uniforms`.
    """
    exact = share * counts
    below = exact.astype(np.int64)
    return below + (uniforms(keys, np.ones_like(counts), purpose) < exact - below)
