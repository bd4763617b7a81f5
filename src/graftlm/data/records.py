"""Rows given as mappings (JSON Lines, lists of dicts) -> columns; every row must have every key."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

from graftlm.data.places import SHOWN, counted_with, first_places
from graftlm.data.table import Table
from graftlm.errors import DataError, clip


def table_of_records(records: Iterable[tuple[int, Mapping[str, object]]], source: str, numbers: str) -> Table:
    """Gather records into columns named by the keys of the first one.

    Args:
        records: a number (of the line, or of the row) and the record, for each row.
        source: the file or object, for messages.
        numbers: what the numbers are, ``line`` or ``row``; rows have no lines in the table.

    Raises:
        DataError: there are no rows, or some have other keys than the first.
    """
    columns: dict[str, list[object]] = {}
    positions = array("q")
    odd: list[str] = []
    odd_count = 0

    def place(number: int) -> str:
        return f"{source}:{number}" if numbers == "line" else f"{source}, row {number}"

    for number, record in records:
        if not positions:
            columns = {key: [] for key in record}
        positions.append(number)
        if record.keys() == columns.keys():
            for key, value in record.items():
                columns[key].append(value)
        else:
            odd_count += 1
            if len(odd) < SHOWN:
                odd.append(f"{place(number)} ({_difference(columns, record)})")
    if odd_count:
        raise DataError(
            f"{counted_with(odd_count, 'row', 'do')} not have the keys of the first row "
            f"({', '.join(map(clip, list(columns)[:8]))}): {first_places(odd, odd_count)}",
            where=source,
            fix="write every key in every row, null (None) where there is no value",
        )
    if not positions:
        raise DataError("has no rows", where=source, fix="give at least one row")
    if not columns:
        raise DataError(
            "the first row has no keys", where=place(positions[0]), fix="write text and label as keys"
        )
    if not all(name.strip() for name in columns):
        raise DataError("a key is empty", where=place(positions[0]), fix="name every column")
    if numbers == "row":
        return Table(source, columns, None, typed=True)
    consecutive = positions[-1] - positions[0] == len(positions) - 1
    lines = range(positions[0], positions[-1] + 1) if consecutive else positions
    return Table(source, columns, lines, typed=True)


def _difference(columns: Mapping[str, object], record: Mapping[str, object]) -> str:
    lacking = [clip(key) for key in columns if key not in record]
    extra = [clip(key) for key in record if key not in columns]
    parts = [f"lacks {', '.join(lacking[:4])}"] if lacking else []
    return "; ".join([*parts, f"adds {', '.join(extra[:4])}"] if extra else parts)
