"""Rows of delimited text -> a table of strings, with every row in its place or a refusal that names it."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from graftlm.data.places import SHOWN, counted, counted_with, first_places
from graftlm.data.table import Table
from graftlm.errors import DataError, clip

_CHUNK_ROWS = 4096
_OTHER_DELIMITERS = {
    ";": "'data.delimiter=;'",
    "\t": "'data.delimiter=\"\\t\"'",
    ",": "data.delimiter=,",
    "|": "'data.delimiter=|'",
}
"""Separator -> the override to write, quoted for a shell."""


@dataclass(frozen=True)
class Row:
    """One row as written: the lines it starts and ends on (1-based), and its fields."""

    line: int
    last_line: int
    fields: list[str]


@dataclass
class _Faults:
    """Rows that cannot be used, counted; the first few are kept for the message."""

    count: int = 0
    shown: list[str] = field(default_factory=list[str])

    def add(self, description: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(description)


def table_of_strings(rows: Iterator[tuple[int, int, list[str]]], source: str, delimiter: str) -> Table:
    """Gather rows, the first of which names the columns.

    Args:
        rows: first line, last line and fields of every row; no fields means a blank line.
        source: the file as the user wrote it.
        delimiter: what separates the fields, for messages.

    Raises:
        DataError: no header, no rows, blank lines between rows, or rows of another length than the header.
    """
    header = _header(rows, source, delimiter)
    width = len(header)
    columns: list[list[object]] = [[] for _ in header]
    lines = array("q")
    pending: list[list[str]] = []
    ragged, blank, blank_run = _Faults(), _Faults(), _Faults()
    for line, last_line, fields in rows:
        if len(fields) == width:
            pending.append(fields)
            lines.append(line)
            if len(pending) == _CHUNK_ROWS:
                _move(pending, columns)
        elif not fields:
            blank_run.add(f"{source}:{line}")
            continue
        else:
            ragged.add(_describe_ragged(source, line, last_line, len(fields)))
        if blank_run.count:
            # Blank lines at the very end are no rows; between rows they are a sign of damage.
            blank.count += blank_run.count
            blank.shown = (blank.shown + blank_run.shown)[:SHOWN]
            blank_run = _Faults()
    _move(pending, columns)
    _refuse(ragged, blank, source, header, delimiter)
    if not lines:
        raise DataError("has a header but no rows", where=source, fix="add rows below the header")
    consecutive = lines[-1] - lines[0] == len(lines) - 1
    places = range(lines[0], lines[-1] + 1) if consecutive else lines
    return Table(source, dict(zip(header, columns, strict=True)), places, typed=False)


def _move(pending: list[list[str]], columns: list[list[object]]) -> None:
    for column, values in zip(columns, zip(*pending, strict=True), strict=False):
        column.extend(values)
    pending.clear()


def _header(rows: Iterator[tuple[int, int, list[str]]], source: str, delimiter: str) -> list[str]:
    line, _, names = next(rows, (0, 0, []))
    if not line:
        raise DataError("is empty", where=source, fix="give a file with a header line and rows")
    where = f"{source}:{line}"
    if not any(name.strip() for name in names):
        raise DataError(
            "the first line is blank; it must name the columns", where=where, fix="remove the line"
        )
    if len(names) == 1:
        for other, written in _OTHER_DELIMITERS.items():
            if other != delimiter and other in names[0]:
                raise DataError(
                    f"the header is a single column {clip(names[0])} that holds {other!r}; "
                    f"expected columns separated by {delimiter!r}",
                    where=where,
                    fix=f"add {written} to the command (quotes included)",
                )
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(
                f"column {position} of {len(names)} has no name",
                where=where,
                fix="name every column; pandas writes such a column unless to_csv(index=False) is used",
            )
    return unique_names(names, where)


def unique_names(names: list[str], where: str) -> list[str]:
    """Return ``names``, or raise `DataError` naming the columns that occur twice."""
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        positions = [str(position) for position, name in enumerate(names, 1) if name == twice[0]]
        others = f" (also twice: {', '.join(map(clip, twice[1:6]))})" if len(twice) > 1 else ""
        raise DataError(
            f"column name {clip(twice[0])} is used for columns {' and '.join(positions)}{others}",
            where=where,
            fix="give every column a name of its own",
        )
    return names


def _describe_ragged(source: str, line: int, last_line: int, fields: int) -> str:
    spread = f", it runs to line {last_line}" if last_line > line else ""
    return f"{source}:{line} ({fields}{spread})"


def _refuse(ragged: _Faults, blank: _Faults, source: str, header: list[str], delimiter: str) -> None:
    if ragged.count:
        raise DataError(
            f"{counted_with(ragged.count, 'row', 'do')} not have the {counted(len(header), 'field')} of the header "
            f"({', '.join(map(clip, header[:8]))}); first (with number of fields): "
            f"{first_places(ragged.shown, ragged.count)}",
            where=source,
            fix=f"quote fields that hold {delimiter!r} (CSV), close every quote, give every row every field",
        )
    if blank.count:
        raise DataError(
            f"{counted(blank.count, 'blank line')} between rows: {first_places(blank.shown, blank.count)}",
            where=source,
            fix="remove the blank lines; where a row has an empty text, write its other fields",
        )


@contextmanager
def field_size_limit(characters: int) -> Generator[None]:
    """Let the csv module read fields of this length, and put its global limit back afterwards."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)
