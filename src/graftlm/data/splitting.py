"""Carving a held-out split from rows: stratified by label, by groups, and fixed by seed and content alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Units:
    """Rows bound together: a carve takes all rows of a unit or none. A unit is known by its first row.

    Args:
        firsts: the first row of each unit.
        rows: first row -> all rows, only of units that have several.
        keys: first row -> a hash of seed and content; it decides the order in which units are taken.
    """

    firsts: list[int]
    rows: dict[int, list[int]]
    keys: Sequence[bytes]

    def members(self, unit: int) -> Sequence[int]:
        """Return all rows of the unit."""
        return self.rows.get(unit, (unit,))

    def all_rows(self) -> list[int]:
        """Return the rows of all units, in ascending order."""
        return sorted(row for unit in self.firsts for row in self.members(unit))


def bind_rows(text_keys: Sequence[bytes], *groups: Sequence[Hashable]) -> Units:
    """Bind rows with the same text, and rows of the same group, directly or through others.

    Args:
        text_keys: a hash of seed and text per row (`normalising.text_keys`).
        groups: each a value per row; rows of equal value must not be split.
    """
    first_row: dict[bytes, int] = {}
    parents = [first_row.setdefault(key, row) for row, key in enumerate(text_keys)]
    for values in groups:
        first_of_group: dict[Hashable, int] = {}
        for row, group in enumerate(values):
            _union(parents, row, first_of_group.setdefault(group, row))
    firsts: list[int] = []
    rows: dict[int, list[int]] = {}
    for row in range(len(parents)):
        root = _root(parents, row)
        if root == row:
            firsts.append(row)
        else:
            rows.setdefault(root, [root]).append(row)
    keys = list(text_keys)
    for first, members in rows.items():
        keys[first] = min(text_keys[row] for row in members)
    return Units(firsts, rows, keys)


def carve(units: Units, labels: Sequence[Hashable], share: float) -> tuple[list[int], Units]:
    """Take about ``share`` of the rows out of ``units``, from every label in proportion.

    No label is ever taken away whole: its last unit stays. At least one unit is taken where any can be.
    The result depends on the keys and labels, not on the order of rows.

    Args:
        units: all rows that may be taken.
        labels: a label per row, of all rows that units speak of.
        share: of the rows in units, between 0 and 1.

    Returns:
        The rows taken, in ascending order (empty where nothing can be spared), and the units that stay.
    """
    strata, left = _strata(units, labels)
    # Rounding errors are handed on from label to label, so that many small labels add up to the right total.
    order = sorted(strata, key=lambda label: _mix(units.keys[strata[label][0]]))
    taken: set[int] = set()
    taken_rows, target = 0, 0.0
    for label in order:
        quota = share * sum(len(units.members(unit)) for unit in strata[label])
        target += quota
        taken_here = 0
        for unit in strata[label]:
            size = len(units.members(unit))
            # At most the quota, rounded up: what other labels cannot spare is not all taken from this one.
            full = bool(taken_here) and taken_here + size / 2 > ceil(quota)
            if full or taken_rows + size / 2 > target:
                if size == 1:
                    break  # nothing smaller follows
                continue
            if all(left[kind] > 1 for kind in _kinds(units, unit, labels)):
                taken.add(unit)
                left.subtract(_kinds(units, unit, labels))
                taken_rows, taken_here = taken_rows + size, taken_here + size
    if not taken:
        taken.update(_smallest_spare_unit(units, labels, left))
    rows = sorted(row for unit in taken for row in units.members(unit))
    return rows, Units([unit for unit in units.firsts if unit not in taken], units.rows, units.keys)


def _kinds(units: Units, unit: int, labels: Sequence[Hashable]) -> Collection[Hashable]:
    """Return the different labels inside a unit."""
    rows = units.rows.get(unit)
    return (labels[unit],) if rows is None else {labels[row] for row in rows}


def _strata(units: Units, labels: Sequence[Hashable]) -> tuple[dict[Hashable, list[int]], Counter[Hashable]]:
    """Return label -> its units in the order of their keys, and in how many units each label occurs."""
    strata: dict[Hashable, list[int]] = {}
    occurrences: Counter[Hashable] = Counter()
    for unit in units.firsts:
        if unit not in units.rows:
            strata.setdefault(labels[unit], []).append(unit)
    for label, alone in strata.items():
        occurrences[label] = len(alone)
    for unit in units.firsts:
        if unit in units.rows:
            # A unit with several labels counts where most of its rows are; ties go by name.
            counts = Counter(labels[row] for row in units.rows[unit])
            most = min(counts, key=lambda label: (-counts[label], repr(label)))
            strata.setdefault(most, []).append(unit)
            occurrences.update(counts.keys())
    for members in strata.values():
        members.sort(key=units.keys.__getitem__)
    return strata, occurrences


def _smallest_spare_unit(units: Units, labels: Sequence[Hashable], left: Counter[Hashable]) -> list[int]:
    spare = [unit for unit in units.firsts if all(left[kind] > 1 for kind in _kinds(units, unit, labels))]
    return sorted(spare, key=lambda unit: (len(units.members(unit)), units.keys[unit]))[:1]


def _mix(key: bytes) -> bytes:
    # The order of labels must not follow the order in which their first units are taken.
    return hashlib.blake2b(key, digest_size=8, key=b"labels").digest()


def _root(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


def _union(parents: list[int], one: int, other: int) -> None:
    one, other = _root(parents, one), _root(parents, other)
    if one != other:
        parents[max(one, other)] = min(one, other)
