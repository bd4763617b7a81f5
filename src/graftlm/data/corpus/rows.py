"""Rows of files with columns -> documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from graftlm.data.corpus.document import LONGEST_DOCUMENT, Document, bounded
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.delimited import field_size_limit
from graftlm.data.formats.csv import rows_of as csv_rows
from graftlm.data.formats.json_lines import records_of
from graftlm.data.formats.tsv import rows_of as tsv_rows
from graftlm.data.options import DataOptions
from graftlm.errors import DataError, MissingResource, clip, nearest

_PARQUET_ROWS = 256  # of one batch: a row may be a whole book


class Row(NamedTuple):
    """What matters of a row.

    Args:
        place: where it is.
        text: the value of the text column.
        document: the value of the document column; None without one.
    """

    place: str
    text: object
    document: object


def documents_of_rows(rows: Iterator[Row], options: CorpusOptions) -> Iterator[Document]:
    """Make one document of each row, or of rows that follow each other and name the same document, line by line.

    Raises:
        DataError: a value is no text, or holds a NUL character.
    """
    texts: list[str] = []
    size, first = 0, Row("", "", None)
    for row in rows:
        text = _text(row, options.text_column)
        same = options.document_column is not None and row.document == first.document
        if texts and not (same and size + len(text) <= LONGEST_DOCUMENT):
            yield from bounded(Document("\n".join(texts), first.place))
            texts, size = [], 0
        first = first if texts else row
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield from bounded(Document("\n".join(texts), first.place))


def _text(row: Row, column: str) -> str:
    if row.text is None:
        return ""
    if not isinstance(row.text, str):
        raise DataError(
            f"the text column {clip(column)} holds {type(row.text).__name__}, no text",
            where=row.place,
            fix="name a column of texts: corpus.text_column=...",
        )
    if "\0" in row.text:
        raise DataError(
            f"NUL character at position {row.text.index(chr(0)) + 1} of the text; text holds none",
            where=row.place,
            fix="remove the NUL characters, or export the data again",
        )
    return row.text


def rows_of_records(
    records: Iterator[tuple[str, Mapping[str, object]]], options: CorpusOptions
) -> Iterator[Row]:
    """Take text and document out of each record; ``records`` come with their places. Raises `DataError`."""
    for place, record in records:
        for column in wanted_columns(options):
            if column not in record:
                raise no_such_column(column, list(record), place)
        document = None if options.document_column is None else record[options.document_column]
        yield Row(place, record[options.text_column], document)


def json_line_rows(lines: Iterator[str], source: str, options: CorpusOptions) -> Iterator[Row]:
    """Read JSON Lines. Raises `DataError` naming the line that is none, or lacks a column."""
    records = ((f"{source}:{number}", record) for number, record in records_of(lines, source))
    yield from rows_of_records(records, options)


def tab_separated_rows(lines: Iterator[str], source: str, options: CorpusOptions) -> Iterator[Row]:
    """Read lines of fields separated by tabs, the first line names the columns. Raises `DataError` naming the line."""
    yield from _rows_of_fields(tsv_rows(lines, source, "\t"), source, options)


def comma_separated_rows(path: Path, source: str, options: CorpusOptions) -> Iterator[Row]:
    """Read CSV, the first row names the columns. Raises `DataError` naming the line."""
    reading = DataOptions(encoding=options.encoding, max_row_bytes=options.max_row_bytes)
    with field_size_limit(options.max_row_bytes):
        yield from _rows_of_fields(csv_rows(path, source, reading, ","), source, options)


def _rows_of_fields(
    rows: Iterator[tuple[int, int, list[str]]], source: str, options: CorpusOptions
) -> Iterator[Row]:
    _, _, names = next(rows, (0, 0, list[str]()))
    positions: dict[str, int] = {}
    for column in wanted_columns(options) if names else ():
        if column not in names:
            raise no_such_column(column, names, f"{source}:1")
        positions[column] = names.index(column)
    for line, _, fields in rows:
        if not fields:
            continue
        if len(fields) != len(names):
            raise DataError(
                f"has {len(fields)} fields where the header has {len(names)}",
                where=f"{source}:{line}",
                fix="give every row every field",
            )
        document = None if options.document_column is None else fields[positions[options.document_column]]
        yield Row(f"{source}:{line}", fields[positions[options.text_column]], document)


def parquet_rows(path: Path, source: str, options: CorpusOptions) -> Iterator[Row]:
    """Read the wanted columns of a Parquet file, a batch of rows at a time. Raises `DataError`."""
    # pyarrow takes a quarter of a second to load and only this format needs it.
    import pyarrow
    import pyarrow.parquet

    columns = wanted_columns(options)
    number = 0
    try:
        with path.open("rb") as file:
            # One thread and no memory map: a damaged file must end in an exception, not in a signal. Buffered and
            # not fetched ahead: a column of a row group may be larger than memory.
            parquet = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
            names = [str(name) for name in parquet.schema_arrow.names]
            for column in columns:
                if column not in names:
                    raise no_such_column(column, names, source)
            for batch in parquet.iter_batches(_PARQUET_ROWS, columns=columns, use_threads=False):
                values = cast("list[list[object]]", [batch.column(name).to_pylist() for name in columns])
                for text, document in zip(values[0], values[-1], strict=True):
                    number += 1
                    yield Row(
                        f"{source}, row {number}",
                        text,
                        document if options.document_column is not None else None,
                    )
    except PermissionError as problem:
        raise MissingResource(f"cannot be opened: {problem.strerror}", where=source) from None
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, MemoryError) as problem:
        raise DataError(
            f"is not a whole Parquet file: {' '.join(str(problem).split())[:200]}",
            where=source if not number else f"{source}, after row {number}",
            fix="copy or write the file again; a file that was cut short ends like this",
        ) from None


def wanted_columns(options: CorpusOptions) -> list[str]:
    """Return the text column and, where there is one, the document column."""
    return [options.text_column, *([] if options.document_column is None else [options.document_column])]


def no_such_column(column: str, names: Sequence[str], place: str) -> DataError:
    """Return the error that lists the columns there are."""
    return DataError(
        f"has no column {clip(column)}; its columns: {', '.join(map(clip, names))}.{nearest(column, names)}",
        where=place,
        fix="name the column that holds the text: corpus.text_column=..., or what tells documents apart: "
        "corpus.document_column=...",
    )
