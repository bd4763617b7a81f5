"""Comma-separated values with quoting, read strictly by the csv module of Python."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

from graftlm.data.delimited import field_size_limit, table_of_strings
from graftlm.data.options import DataOptions
from graftlm.data.reading import read_lines
from graftlm.data.table import Table
from graftlm.errors import ConfigurationError, DataError


class Csv:
    """CSV files: fields are separated by ``data.delimiter`` (a comma by default); a field in double quotes
    may hold delimiters, line ends and doubled quotes. Every value stays the string that was written.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file as strings. Raises `DataError` naming the line, for a quote where it opened."""
        delimiter = options.delimiter or ","
        if delimiter in '"\r\n':
            raise ConfigurationError(f"{delimiter!r} cannot separate columns", where="data.delimiter")
        with field_size_limit(options.max_row_bytes):
            return table_of_strings(rows_of(path, source, options, delimiter), source, delimiter)


def rows_of(
    path: Path, source: str, options: DataOptions, delimiter: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield first line, last line and fields of each row, the header first; a blank line has no fields.

    The caller sets `field_size_limit`. Raises `DataError` naming the line, for a quote where it opened.
    """
    lines = read_lines(path, source, options.encoding, options.max_row_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, reader.line_num, fields
            line = reader.line_num + 1
    except csv.Error as problem:
        lines = read_lines(path, source, options.encoding, options.max_row_bytes)
        row_lines = islice(lines, line - 1, reader.line_num)
        opened = line + _line_of_last_opened_quote(row_lines, delimiter)
        raise _explain(str(problem), source, options, opened, reader.line_num) from None


def _line_of_last_opened_quote(lines: Iterator[str], delimiter: str) -> int:
    """Return how many lines after the first the last quoted field of a row begins."""
    state, opened = "start", 0
    for offset, line in enumerate(lines):
        for character in line:
            if state == "quoted":
                state = "closed" if character == '"' else "quoted"
            elif character == '"' and state == "closed":
                state = "quoted"  # a doubled quote: the same field goes on
            elif character == '"' and state == "start":
                state, opened = "quoted", offset
            else:
                state = "start" if character in (delimiter, "\n", "\r") else "plain"
    return opened


def _explain(problem: str, source: str, options: DataOptions, opened: int, line: int) -> DataError:
    if "unexpected end" in problem:
        return DataError(
            f"a quote opened on this line is never closed (the file ends on line {line})",
            where=f"{source}:{opened}",
            fix='close the quote; a quote inside a quoted field is written twice ("")',
        )
    if "expected after" in problem:
        return DataError(
            f"text follows the closing quote of a field that opened on line {opened}; expected a delimiter "
            "or a line end: a quote is unbalanced here or above",
            where=f"{source}:{line}",
            fix='a quote inside a quoted field is written twice ("")',
        )
    if "field limit" in problem:
        return DataError(
            f"a field that opened on this line is longer than {options.max_row_bytes:,} characters (read to "
            f"line {line}): probably a quote that is never closed",
            where=f"{source}:{opened}",
            fix="close the quote, or raise data.max_row_bytes if so long a text is meant",
        )
    if "new-line character" in problem:
        return DataError(
            "a CR stands inside an unquoted field: the file mixes line ends",
            where=f"{source}:{line}",
            fix="convert the file to one kind of line end (LF), or quote the field",
        )
    return DataError(f"is not valid CSV: {problem}", where=f"{source}:{line}")
