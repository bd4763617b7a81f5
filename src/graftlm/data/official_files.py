"""Tab-separated files of benchmarks as their owners hand them out: without quoting, with or without a header."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path

from graftlm.data.options import DataOptions
from graftlm.data.places import SHOWN, counted, first_places
from graftlm.data.reading import read_lines
from graftlm.data.table import Table
from graftlm.errors import DataError


def read_fields(
    source: str, fields: Mapping[str, str | int], options: DataOptions, keep_going: bool
) -> Table:
    """Read some fields of each line; further fields of files without a header are left aside.

    Args:
        source: the path as the user wrote it.
        fields: column -> its name in the header, or its position (from 0) where there is no header.
        options: encoding and longest line.
        keep_going: leave out rows with another number of fields than the header, and say how many; they are refused
            otherwise.

    Raises:
        DataError: the header lacks a name, rows lack fields, or there are no rows.
        MissingResource: the file cannot be read.
    """
    path = Path(source).expanduser()
    lines = enumerate(read_lines(path, source, options.encoding, options.max_row_bytes), 1)
    named = {column: name for column, name in fields.items() if isinstance(name, str)}
    positions = {column: place for column, place in fields.items() if isinstance(place, int)}
    width = None
    if named:
        header = _fields(next(lines, (0, ""))[1])
        lacking = [name for name in named.values() if name not in header]
        if lacking:
            raise DataError(
                f"the header has no column {' and no column '.join(lacking)}", where=f"{source}:1",
                fix="take the official file as it is",
            )  # fmt: skip
        positions |= {column: header.index(name) for column, name in named.items()}
        width = len(header)
    needed = max(positions.values()) + 1
    columns: dict[str, list[object]] = {column: [] for column in fields}
    places = array("q")
    broken: list[str] = []
    for number, line in lines:
        values = _fields(line)
        if not any(values):
            continue  # a blank line holds nothing
        if len(values) != width if width is not None else len(values) < needed:
            broken.append(f"{source}:{number}")
            continue
        places.append(number)
        for column, place in positions.items():
            columns[column].append(values[place])
    what = f"{counted(len(broken), 'row')} with another number of fields than {width or f'at least {needed}'}"
    if broken and not keep_going:
        raise DataError(
            f"{what}: {first_places(broken, shown=SHOWN)}",
            where=source,
            fix="take the official file as it is",
        )
    if not places:
        raise DataError("has no rows", where=source, fix="take the official file as it is")
    said = [f"{what} left out, as official readers do: {first_places(broken)}."] if broken else []
    return Table(source, columns, places, typed=True, said=said)


def _fields(line: str) -> list[str]:
    return line.removesuffix("\n").removesuffix("\r").split("\t")
