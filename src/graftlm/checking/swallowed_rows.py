"""Rows that vanished into a text: an unbalanced quote in a CSV file which a later quote closed again."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from graftlm.checking.finding import PLACES, Finding
from graftlm.data.dataset import Dataset
from graftlm.data.places import counted

_CSV_PLACE = re.compile(r"\.csv(\.gz)?:\d+$", re.IGNORECASE)
_DELIMITERS = ",;\t|"


def check_swallowed_rows(
    dataset: Dataset, text_roles: Sequence[str], label_roles: Sequence[str]
) -> list[Finding]:
    """Find multi-line texts of CSV files whose inner lines all read as whole rows with a known label."""
    if not label_roles:
        return []
    findings: list[Finding] = []
    for split in dataset.splits.values():
        labels = {str(label) for role in label_roles for label in split.columns[role]}
        found = [
            row
            for role in text_roles
            for row, text in enumerate(split.columns[role])
            if "\n" in str(text)
            and _CSV_PLACE.search(split.row_ids[row])
            and swallows_rows(str(text), labels)
        ]
        if found:
            findings.append(
                Finding(
                    "error",
                    "swallowed_rows",
                    f"{split.name}: {counted(len(found), 'text')} over several lines that read as rows "
                    "of the file: a quote opened there is closed only by a later one",
                    len(found),
                    [split.row_ids[row] for row in found[:PLACES]],
                    'close the quote, and double quotes inside quoted fields (""); if the texts are meant, '
                    "save the data as JSON Lines",
                )
            )
    return findings


def swallows_rows(text: str, labels: Collection[str]) -> bool:
    """Say whether all lines inside ``text`` read as a text and a known label, in either order.

    With the label last, the first line is the rest of the row whose quote was never closed, so it ends as a
    row too; with the label first, the last line starts as one. The other end is a fragment.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return all(_ends_with_label(line, labels) for line in lines[:-1]) or all(
        _starts_with_label(line, labels) for line in lines[1:]
    )


def _ends_with_label(line: str, labels: Collection[str]) -> bool:
    return any(
        before.strip() and label.strip().strip('"') in labels
        for before, mark, label in (line.rpartition(delimiter) for delimiter in _DELIMITERS)
        if mark
    )


def _starts_with_label(line: str, labels: Collection[str]) -> bool:
    return any(
        after.strip() and label.strip().strip('"') in labels
        for label, mark, after in (line.partition(delimiter) for delimiter in _DELIMITERS)
        if mark
    )
