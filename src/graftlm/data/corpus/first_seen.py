"""A hash table in numpy: who had a key first, in some 15 to 30 bytes for each key where a dict needs over 100."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FULLEST = 0.75
_SPARE = 1_024
"""Slots behind the last home, so that no probe need go around; at most this many keys may crowd there."""


class FirstSeen:
    """Keys of several tables side by side -> the number of the first document that had each.

    Open addressing with linear probing; a key's home is its highest bits, so that growing keeps the order of slots.

    Args:
        tables: how many there are; a document has one key in each.
        key_type: uint64, or uint32 where a wrong match now and then does no harm.
        slots: of each table to begin with, a power of two.
    """

    def __init__(self, tables: int, key_type: type[np.uint64 | np.uint32], slots: int = 1 << 12) -> None:
        self._rows = np.arange(tables)
        self._bits = 8 * np.dtype(key_type).itemsize
        self._allocate(tables, key_type, slots)

    def _allocate(self, tables: int, key_type: type[np.uint64 | np.uint32], slots: int) -> None:
        self._slots = slots
        self._shift = self._bits - slots.bit_length() + 1
        self._keys = np.zeros((tables, slots + _SPARE), dtype=key_type)
        self._holders = np.zeros((tables, slots + _SPARE), dtype=np.uint32)
        self._filled = np.zeros(tables, dtype=np.int64)

    def holders(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the first document with each key, for those keys that one had before; keys are [tables]."""
        slots = self._find(self._usable(keys))
        there = self._keys[self._rows, slots] != 0
        return self._holders[self._rows[there], slots[there]].astype(np.int64)

    def add(self, keys: NDArray[np.uint64], document: int) -> bool:
        """Remember a document for those of its keys that none had before; say whether there was any. [tables]"""
        wanted = self._usable(keys)
        slots = self._find(wanted)
        new = self._keys[self._rows, slots] == 0
        if not new.any():
            return False
        self._keys[self._rows[new], slots[new]] = wanted[new]
        self._holders[self._rows[new], slots[new]] = document
        self._filled += new
        if self._filled.max() > _FULLEST * self._slots or slots.max() >= self._slots + _SPARE - 2:
            self._grow()
        return True

    def _usable(self, keys: NDArray[np.uint64]) -> NDArray[np.unsignedinteger]:
        # Zero marks an empty slot.
        return np.maximum(keys.astype(self._keys.dtype), self._keys.dtype.type(1))

    def _find(self, wanted: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
        """Return the slot of each key, or the empty one where it belongs."""
        slots = (wanted >> self._keys.dtype.type(self._shift)).astype(np.int64)
        while True:
            found = self._keys[self._rows, slots]
            on_the_way = (found != wanted) & (found != 0)
            if not on_the_way.any():
                return slots
            slots += on_the_way

    def _grow(self) -> None:
        old_keys, old_holders, filled = self._keys, self._holders, self._filled
        self._allocate(len(old_keys), old_keys.dtype.type, 2 * self._slots)
        self._filled = filled
        for table, (keys, holders) in enumerate(zip(old_keys, old_holders, strict=True)):
            there = np.flatnonzero(keys)
            order = there[np.argsort(keys[there], kind="stable")]
            homes = (keys[order] >> keys.dtype.type(self._shift)).astype(np.int64)
            # In the order of their homes, each takes its home or the slot behind the one before it.
            steps = np.arange(len(homes))
            slots = np.maximum.accumulate(homes - steps) + steps
            self._keys[table, slots] = keys[order]
            self._holders[table, slots] = holders[order]
