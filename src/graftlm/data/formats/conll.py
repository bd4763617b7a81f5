"""CoNLL columns: one word a line with its tags, a blank line after each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from graftlm.data.options import DataOptions
from graftlm.data.places import SHOWN, counted, first_places
from graftlm.data.reading import read_lines
from graftlm.data.table import Table
from graftlm.errors import DataError

_DOCUMENT = "-DOCSTART-"
# Nothing else is stripped: a no-break or an ideographic space may be a word.
_BLANK = " \t\r\n"


class Conll:
    """Files of words and tags. The first column is ``tokens``, the last one ``tags``, those between ``column_2``,
    ``column_3`` ...; a single column is ``tokens``. Columns are separated by tabs where the first word has one, else by
    spaces, or by ``data.delimiter``.

    ``-DOCSTART-`` lines are skipped, and so are comments: lines that begin with ``#`` and have another number of
    columns than the first word.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".conll", ".bio", ".iob", ".iob2", ".bioes", ".bmes")

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file, a row for each sentence. Raises `DataError` naming the lines."""
        lines = list(read_lines(path, source, options.encoding, options.max_row_bytes))
        words = [line for line in lines if line.strip(_BLANK) and not line.startswith(_DOCUMENT)]
        if not words:
            raise DataError(
                "has no words", where=source, fix="give a file with one word and its tags on each line"
            )
        first = next((line for line in words if not line.startswith("#")), words[0])
        delimiter = options.delimiter or ("\t" if "\t" in first.strip(_BLANK) else " ")
        width = len(_fields(first, delimiter))
        columns: list[list[object]] = [[] for _ in range(width)]
        starts: list[int] = []
        ragged: list[str] = []
        documents = comments = 0
        open_sentence = False
        for number, line in enumerate(lines, 1):
            if not line.strip(_BLANK) or line.startswith(_DOCUMENT):
                documents += line.startswith(_DOCUMENT)
                open_sentence = False
                continue
            fields = _fields(line, delimiter)
            if len(fields) != width or not fields[0]:
                if line.startswith("#"):
                    comments += 1
                else:
                    ragged.append(f"{source}:{number} ({len(fields) if fields[0] else 'no word'})")
                continue
            if not open_sentence:
                starts.append(number)
                for column in columns:
                    column.append([])
                open_sentence = True
            for column, field in zip(columns, fields, strict=True):
                column[-1].append(field)  # pyright: ignore[reportAttributeAccessIssue]
        _refuse(ragged, width, source)
        skipped = [(documents, f"{_DOCUMENT} line"), (comments, "comment line")]
        said = [f"{source}: {counted(number, what)} skipped." for number, what in skipped if number]
        names = ["tokens", *(f"column_{position}" for position in range(2, width)), "tags"][:width]
        return Table(source, dict(zip(names, columns, strict=True)), starts, typed=True, said=said)


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return [field for field in line.strip(_BLANK).split(" ") if field]
    return [field.strip(" ") for field in line.rstrip("\r\n").split(delimiter)]


def _refuse(ragged: Sequence[str], width: int, source: str) -> None:
    if ragged:
        raise DataError(
            f"{counted(len(ragged), 'line')} without the {counted(width, 'column')} of the first word; first (with "
            f"number of columns): {first_places(ragged[:SHOWN], len(ragged))}",
            where=source,
            fix="write every word on a line of its own with all its columns, and a blank line after each sentence",
        )
