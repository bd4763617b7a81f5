"""The same text more than once: in two splits, with two labels, or repeated in train."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, combinations
from typing import cast

from graftlm.checking.finding import PLACES, Finding
from graftlm.data.dataset import Dataset, Split
from graftlm.data.normalising import text_keys
from graftlm.data.places import counted
from graftlm.errors import clip

Place = tuple[Split, int]


def check_duplicates(
    dataset: Dataset, text_roles: Sequence[str], label_roles: Sequence[str], answer_roles: Sequence[str]
) -> list[Finding]:
    """Compare all texts of all splits after NFC, lower case and white-space folding; linear in the rows.

    Args:
        dataset: the splits.
        text_roles: columns that make rows the same.
        label_roles: columns of which such rows should not differ.
        answer_roles: all columns that a model should answer with.
    """
    if not text_roles:
        return []
    splits = list(dataset.splits.values())
    groups = _repeated(splits, text_roles)
    return [
        *(
            finding
            for one, other in combinations(splits, 2)
            for finding in _in_two_splits(groups, one, other)
        ),
        *_conflicts(groups, label_roles),
        *_exact_in_train(groups, [*text_roles, *answer_roles]),
    ]


def check_shared(dataset: Dataset, role: str) -> list[Finding]:
    """Find rows of a split about something, such as a context, that rows of an earlier split are about as well.

    Args:
        dataset: the splits.
        role: the column that many rows of one split have in common.
    """
    found: list[Finding] = []
    keyed = [(split, text_keys([split.columns[role]])) for split in dataset.splits.values()]
    for (one, earlier), (other, later) in combinations(keyed, 2):
        first: dict[bytes, int] = {}
        for row, key in enumerate(earlier):
            first.setdefault(key, row)
        rows = [row for row, key in enumerate(later) if key in first]
        if rows:
            places = [f"{other.row_ids[row]} = {one.row_ids[first[later[row]]]}" for row in rows[:PLACES]]
            found.append(
                Finding(
                    "warning",
                    "same_context_in_two_splits",
                    f"{other.name}: {counted(len(rows), 'row')} of {len(other):,} with a {role} that is also in "
                    f"{one.name}, so the {other.name} score says little about a {role} never seen",
                    len(rows),
                    places,
                    f"give all rows of one {role} to one split",
                )
            )
    return found


def _repeated(splits: Sequence[Split], text_roles: Sequence[str]) -> list[list[Place]]:
    """Return all places of each text that has several, those of a text in order."""
    first: dict[bytes, int] = {}
    repeated: dict[int, list[int]] = {}
    keys = (text_keys([split.columns[role] for role in text_roles]) for split in splits)
    # Rows are numbered through all splits: a number costs less than a pair, and nearly no row is repeated.
    for row, key in enumerate(chain.from_iterable(keys)):
        earlier = first.setdefault(key, row)
        if earlier != row:
            repeated.setdefault(earlier, [earlier]).append(row)
    starts = [0, *accumulate(map(len, splits))]

    def place(row: int) -> Place:
        number = bisect_right(starts, row) - 1
        return splits[number], row - starts[number]

    return [list(map(place, rows)) for rows in repeated.values()]


def _place(place: Place) -> str:
    split, row = place
    return split.row_ids[row]


def _in_two_splits(groups: Sequence[Sequence[Place]], one: Split, other: Split) -> list[Finding]:
    count, places = 0, list[str]()
    for group in groups:
        here = next((place for place in group if place[0] is one), None)
        there = [place for place in group if place[0] is other]
        if here is not None and there:
            count += len(there)
            if len(places) < PLACES:
                places += [f"{_place(place)} = {_place(here)}" for place in there]
    if not count:
        return []
    return [
        Finding(
            "warning",
            "same_text_in_two_splits",
            f"{other.name}: {counted(count, 'row')} of {len(other):,} with a text that is also in {one.name} "
            f"(apart from case and white space), so the {other.name} score is partly memory",
            count,
            places[:PLACES],
            f"remove these rows from {one.name} or from {other.name}",
        )
    ]


def _conflicts(groups: Sequence[Sequence[Place]], label_roles: Sequence[str]) -> list[Finding]:
    def labels(place: Place) -> tuple[object, ...]:
        split, row = place
        return tuple(split.columns[role][row] for role in label_roles)

    def named(place: Place, other: Place) -> str:
        pairs = zip(labels(place), labels(other), strict=True)
        return f"{_place(place)} ({', '.join(_told_apart(value, twin) for value, twin in pairs)})"

    count, places = 0, list[str]()
    for group in groups:
        other = next((place for place in group if labels(place) != labels(group[0])), None)
        if other is not None:
            count += 1
            if len(places) < PLACES:
                places.append(f"{named(group[0], other)} and {named(other, group[0])}")
    if not count:
        return []
    return [
        Finding(
            "warning",
            "conflicting_labels",
            f"{counted(count, 'text')} with different labels in different rows",
            count,
            places,
            "decide which label is right; no model can answer both ways",
        )
    ]


def _told_apart(value: object, other: object) -> str:
    """Return a label for the user; of tags, or other names, those that differ."""
    if not isinstance(value, tuple) or not isinstance(other, tuple):
        return clip(value)
    names, others = cast("tuple[str, ...]", value), cast("tuple[str, ...]", other)
    if len(names) == len(others):
        names = tuple(name for name, twin in zip(names, others, strict=True) if name != twin)
    return clip(", ".join(names))


def _exact_in_train(groups: Sequence[Sequence[Place]], roles: Sequence[str]) -> list[Finding]:
    count, places = 0, list[str]()
    for group in groups:
        seen: dict[tuple[object, ...], Place] = {}
        for split, row in group:
            if split.name != "train":
                continue
            earlier = seen.setdefault(tuple(split.columns[role][row] for role in roles), (split, row))
            if earlier != (split, row):
                count += 1
                if len(places) < PLACES:
                    places.append(f"{split.row_ids[row]} = {_place(earlier)}")
    if not count:
        return []
    return [
        Finding(
            "warning",
            "duplicate_rows",
            f"train: {counted(count, 'exact repeat')} of an earlier row, text and label, "
            "which then weighs double",
            count,
            places,
            "remove the repeats unless their weight is meant",
        )
    ]
