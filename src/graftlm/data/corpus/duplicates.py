"""Documents that were there before: the same text apart from case and white space, or nearly the same words.

Near duplicates are found by MinHash (Broder 1997, "On the resemblance and containment of documents") over sequences
of 5 words, with bands (Leskovec, Rajaraman, Ullman: "Mining of Massive Datasets", chapter 3): two documents become
candidates when one of 20 bands of 6 minima is equal, and are duplicates when at least 0.8 of the 120 minima are. Of
pairs whose sets overlap by exactly 0.8 (Jaccard), 0.2 % share no band; the share of equal minima estimates the
overlap with a standard error of 0.04.

Memory grows by 16 to 32 bytes for each document that is kept, with near duplicates by 0.2 to 0.4 kB, and disk by 240
bytes while the corpus is built.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
import regex
from numpy.typing import NDArray

from graftlm.data.corpus.first_seen import FirstSeen
from graftlm.data.corpus.options import DuplicateRule
from graftlm.data.normalising import normalised, text_keys

WORDS_IN_SHINGLE, BANDS, MINIMA_IN_BAND = 5, 20, 6
LEAST_OVERLAP = 0.8
_MINIMA = BANDS * MINIMA_IN_BAND
_BLOCK = 1_024  # shingles at a time: their 120 hashes fit a processor's cache

# Where words are not set apart by spaces, each character is one, so that shingles are of characters.
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
_WORD = regex.compile(rf"[{_SPACELESS}]|[\w--[{_SPACELESS}]]++", flags=regex.V1)

_constants = np.random.default_rng(20_001).integers(0, 2**64, (2, _MINIMA), dtype=np.uint64)
_FACTORS, _OFFSETS = _constants[0] | np.uint64(1), _constants[1]
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Duplicates(Protocol):
    """Knows all documents it was asked about."""

    @property
    def exact(self) -> int:
        """How many were the same as an earlier one."""
        ...

    @property
    def near(self) -> int:
        """How many were nearly the same as an earlier one."""
        ...

    def seen(self, text: str) -> bool:
        """Say whether a document like this was asked about before, and remember it if not."""
        ...

    def close(self) -> None:
        """Forget all."""
        ...


def open_duplicates(rule: DuplicateRule, folder: Path) -> Duplicates:
    """Return an empty memory of documents.

    Args:
        rule: what counts as the same.
        folder: for a temporary file of 240 bytes for each document (``near``).
    """
    return {"keep": _None, "exact": _Exact, "near": _Near}[rule](folder)


class _None:
    exact = near = 0

    def __init__(self, folder: Path) -> None:
        pass

    def seen(self, text: str) -> bool:
        return False

    def close(self) -> None:
        pass


class _Exact:
    """64 bits of each text's hash: among 100 million different documents, one is taken for another with a
    probability of 0.0003.
    """

    near = 0

    def __init__(self, folder: Path) -> None:
        self.exact = 0
        self._count = 0
        self._first = FirstSeen(1, np.uint64)

    def seen(self, text: str) -> bool:
        key = np.frombuffer(text_keys([[text]])[0], dtype="<u8", count=1).astype(np.uint64)
        new = self._first.add(key, self._count)
        self._count += new
        self.exact += not new
        return not new

    def close(self) -> None:
        pass


class _Near:
    """Minima of each document that was kept, 16 bits of each, in a file; keys of their bands in memory."""

    def __init__(self, folder: Path) -> None:
        self.near = 0
        self._exact = _Exact(folder)
        self._count = 0
        # 32 bits: a wrong candidate costs a comparison, no document.
        self._first = FirstSeen(BANDS, np.uint32)
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".signatures.")  # noqa: SIM115 - see close

    @property
    def exact(self) -> int:
        return self._exact.exact

    def seen(self, text: str) -> bool:
        """Whether the text, or one near it, was seen before; from now on it was."""
        if self._exact.seen(text):
            return True
        minima = signature(text)
        keys = band_keys(minima)
        short = minima.astype(np.uint16)
        for candidate in np.unique(self._first.holders(keys)).tolist():
            if float(np.mean(self._read(candidate) == short)) >= LEAST_OVERLAP:
                self.near += 1
                return True
        self._first.add(keys, self._count)
        self._file.seek(0, os.SEEK_END)
        self._file.write(short.tobytes())
        self._count += 1
        return False

    def _read(self, document: int) -> NDArray[np.uint16]:
        self._file.seek(document * 2 * _MINIMA)
        return np.frombuffer(self._file.read(2 * _MINIMA), dtype=np.uint16)

    def close(self) -> None:
        self._file.close()


def signature(text: str) -> NDArray[np.uint64]:
    """Return the least of each of 120 hashes over the word sequences of a text, 32 bits each, [120].

    A text of fewer than 5 words is one sequence. The share of equal minima of two texts estimates how much their
    sets of sequences overlap: |A ∩ B| / |A ∪ B|.
    """
    words = _WORD.findall(normalised(text))
    hashes = np.fromiter((zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words), np.uint64)
    shingles = np.unique(_shingles(hashes))
    least = np.full(_MINIMA, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(shingles), _BLOCK):
        values = shingles[start : start + _BLOCK, None] * _FACTORS + _OFFSETS
        np.minimum(least, values.min(axis=0), out=least)
    return least >> np.uint64(32)


def band_keys(minima: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one hash for each band of minima, 32 bits, [bands]."""
    keys = np.zeros(BANDS, dtype=np.uint64)
    for column in minima.reshape(BANDS, MINIMA_IN_BAND).T:
        keys = _mixed(keys ^ column)
    return keys >> np.uint64(32)


def _shingles(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of every 5 words that follow each other, [max(1, words - 4)]."""
    count = max(1, len(hashes) - WORDS_IN_SHINGLE + 1)
    found = np.zeros(count, dtype=np.uint64)
    for offset in range(min(WORDS_IN_SHINGLE, len(hashes))):
        found = _mixed(found ^ hashes[offset : offset + count])
    return found


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well spread 64 bits (the first half of the finaliser of splitmix64)."""
    values = (values + _MIX) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))
