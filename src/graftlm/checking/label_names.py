"""Names of labels that look like something else: lists, several names in one, the mark of a missing label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graftlm.checking.finding import PLACES, Finding
from graftlm.data.dataset import Split
from graftlm.data.label_sets import is_written_list
from graftlm.data.places import counted
from graftlm.errors import clip

_MARKS = ("|", ";", ",")
_MISSING = ("nan", "na", "<na>", "n/a", "#n/a", "null", "?", "-")


def check_label_names(train: Split, counts: Counter[str], role: str, exclusive: bool) -> list[Finding]:
    """Look at the names alone; each row was given them as they are.

    Args:
        train: where they are.
        counts: the names and their rows.
        role: the column.
        exclusive: whether a row has one label.
    """
    return [
        *(_written_lists(train, counts, role) or _joined(train, counts, role, exclusive)),
        *_missing(train, counts, role),
    ]


def first_rows(train: Split, role: str, names: Iterable[str]) -> list[str]:
    """Return the place where each of the first few of these labels stands first."""
    wanted = list(names)[:PLACES]
    first: dict[str, str] = {}
    for name, place in zip(map(str, train.columns[role]), train.row_ids, strict=True):
        first.setdefault(name, place)
    return [first[name] for name in wanted]


def _written_lists(train: Split, counts: Counter[str], role: str) -> list[Finding]:
    found = [name for name in counts if is_written_list(name)]
    if not found:
        return []
    example = clip(max(found, key=len))
    message = (
        f"{counted(len(found), role)} written as lists are, each a class of its own, for instance {example}"
    )
    fix = (
        "for any number of labels in a row set task.name=multi_label_classification, and write lists to JSON Lines, or "
        "the names of a row joined by data.label_separator"
    )
    places = first_rows(train, role, found)
    return [Finding("warning", "written_list", message, len(found), places, fix)]


def _joined(train: Split, counts: Counter[str], role: str, exclusive: bool) -> list[Finding]:
    for mark in _MARKS if exclusive else _MARKS[:2]:  # a comma joins names unless the user says otherwise
        found = [name for name in counts if mark in name]
        parts = {part.strip() for name in found for part in name.split(mark)}
        # A mark inside a name makes parts that occur once; between names the parts come again.
        if found and (parts <= set(counts) or len(parts) <= len(found)):
            message = (
                f"{counted(len(found), role)} with {mark!r} between parts that come again, for instance "
            )
            task = "task.name=multi_label_classification " if exclusive else ""
            fix = f'if {mark!r} stands between the labels of a row: {task}data.label_separator="{mark}"'
            message += clip(found[0])
            places = first_rows(train, role, found)
            return [Finding("warning", "joined_labels", message, len(found), places, fix)]
    return []


def _missing(train: Split, counts: Counter[str], role: str) -> list[Finding]:
    found = [name for name in counts if name.strip().lower() in _MISSING]
    others = counts.keys() - {"-1"}
    # -1, 0 and 1 may be bad, neutral and good; below more classes than these it is what data sets write for no label.
    if "-1" in counts and len(others) > 2 and all(name.isdecimal() for name in others):
        found.append("-1")
    if not found or len(found) == len(counts):
        return []
    listed = ", ".join(f"{clip(name)} ({counts[name]:,})" for name in found)
    message = f"what reads like the mark of a row without {role} is a class as any other: {listed}"
    fix = "remove these rows if it is so"
    places = first_rows(train, role, found)
    return [Finding("warning", "placeholder_label", message, len(found), places, fix)]
