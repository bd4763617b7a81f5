"""Tab-separated values: one row per line, no quoting, so that a quote at the start of a text is a quote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from graftlm.data.delimited import table_of_strings
from graftlm.data.options import DataOptions
from graftlm.data.reading import read_lines
from graftlm.data.table import Table
from graftlm.errors import DataError, clip


class Tsv:
    """TSV files, read as GLUE and most research data sets are written: a tab always separates, a line end
    always ends the row, and quotes are characters of the text.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".tab")

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file as strings. Raises `DataError` naming the line."""
        delimiter = options.delimiter or "\t"
        lines = read_lines(path, source, options.encoding, options.max_row_bytes)
        return table_of_strings(rows_of(lines, source, delimiter), source, delimiter)


def rows_of(lines: Iterator[str], source: str, delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield first line, last line and fields of each row, the header first; a blank line has no fields."""
    for number, line in enumerate(lines, 1):
        content = line.removesuffix("\n").removesuffix("\r")
        fields = content.split(delimiter) if content else []
        if number == 1:
            _check_header(fields, f"{source}:1")
        yield number, number, fields


def _check_header(names: list[str], where: str) -> None:
    if any("\r" in name for name in names):
        raise DataError(
            "mixes line ends: a CR stands inside the first line, which ends with LF",
            where=where,
            fix="convert the file to one kind of line end (LF)",
        )
    if names and all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
        raise DataError(
            f"the column names are quoted ({', '.join(map(clip, names[:4]))}); TSV is read without quoting",
            where=where,
            fix="rename the file to .csv and set data.delimiter='\"\\t\"', or write it without quotes",
        )
