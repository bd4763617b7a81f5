"""Random texts for the tests of corruption."""

from __future__ import annotations

import numpy as np

from graftlm.data.corruption.flat import ragged
from graftlm.data.corruption.uniforms import Keys, corruption_keys
from graftlm.data.ragged import Ragged

PADDING, BEGIN, END, MASK = range(4)
SPECIAL, VOCABULARY = 10, 300
ORDINARY = np.arange(VOCABULARY) >= SPECIAL
CONTINUES = (np.arange(VOCABULARY) % 3 == 0) & ORDINARY


def random_texts(seed: int, count: int, shortest: int = 0, longest: int = 60) -> Ragged:
    """Ordinary tokens."""
    random = np.random.default_rng(seed)
    lengths = random.integers(shortest, longest + 1, count)
    return ragged(random.integers(SPECIAL, VOCABULARY, lengths.sum()).astype(np.int32), lengths)


def numbered_texts(seed: int, count: int, shortest: int = 0, longest: int = 60) -> Ragged:
    """Every token is another one, in ascending order: where one has gone is plain."""
    lengths = np.random.default_rng(seed).integers(shortest, longest + 1, count)
    return ragged(np.arange(SPECIAL, SPECIAL + lengths.sum(), dtype=np.int32), lengths)


def keys_of(seed: int, examples: Ragged, pass_number: int = 0) -> Keys:
    return corruption_keys(seed, pass_number, np.arange(len(examples)))


def rows(examples: Ragged, chosen: np.ndarray) -> Ragged:
    return Ragged.of([examples[row] for row in chosen.tolist()])


def near(found: np.ndarray, expected: float) -> bool:
    """Whether the mean of independent numbers is within 4 standard errors: one failure in 16,000 by chance."""
    return bool(abs(found.mean() - expected) < 4.0 * found.std(ddof=1) / np.sqrt(len(found)))
