"""JSON Lines: one JSON object per line, its keys the columns. Values keep their JSON types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.reading import read_lines
from graftlm.data.records import table_of_records
from graftlm.data.strict_json import Refused, json_kind, refuse_lone_surrogates, strict_decoder
from graftlm.data.table import Table
from graftlm.errors import DataError, clip


class JsonLines:
    """JSON Lines files. What JSON leaves open is refused: duplicate keys, NaN and Infinity, integers beyond
    64 bits, halves of surrogate pairs.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file with the types of JSON. Raises `DataError` naming the line."""
        lines = read_lines(path, source, options.encoding, options.max_row_bytes)
        return table_of_records(records_of(lines, source), source, "line")


def records_of(lines: Iterator[str], source: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number and the object of each line; raise `DataError` naming the first that holds none."""
    decoder = strict_decoder()
    blank: list[int] = []
    first = True
    for number, line in enumerate(lines, 1):
        if line.isspace():
            blank.append(number)
            continue
        if blank:
            raise DataError(
                f"{counted(len(blank), 'blank line')} between rows: "
                f"{first_places([f'{source}:{at}' for at in blank])}",
                where=f"{source}:{blank[0]}",
                fix="remove the blank lines",
            )
        if first and line.lstrip().startswith("["):
            raise _array_error(f"{source}:{number}")
        first = False
        yield number, _parse(decoder, line, f"{source}:{number}")
    if first:
        raise DataError("is empty", where=source, fix="give a file with one JSON object per line")


def _parse(decoder: json.JSONDecoder, line: str, where: str) -> dict[str, object]:
    try:
        record = decoder.decode(line)
    except json.JSONDecodeError as problem:
        raise _syntax_error(problem, line, where) from None
    except Refused as problem:
        raise DataError(problem.what, where=where, fix=problem.fix) from None
    except RecursionError:
        raise DataError("the JSON is nested too deeply", where=where, fix="write a flat object") from None
    if not isinstance(record, dict):
        raise DataError(
            f"is {json_kind(record)}; expected one JSON object per line",
            where=where,
            fix='write each row as {"text": ..., "label": ...} on a line of its own',
        )
    if "\\u" in line:
        refuse_lone_surrogates(record, where)
    return record


def _syntax_error(problem: json.JSONDecodeError, line: str, where: str) -> DataError:
    if not line.endswith(("\n", "\r")):
        return DataError(
            f"the last line is not whole JSON ({problem.msg}, character {problem.pos + 1} of {len(line)}) "
            "and has no line end: the file was probably cut short",
            where=where,
            fix="copy or write the file again, or remove the last line",
        )
    return DataError(
        f"is not JSON: {problem.msg.removesuffix(' at')} at character {problem.pos + 1}, near "
        f"{clip(line[max(0, problem.pos - 20) : problem.pos + 20])}",
        where=where,
        fix="write one whole JSON object per line, with double quotes",
    )


def _array_error(where: str) -> DataError:
    return DataError(
        "the file is a JSON array; expected JSON Lines, one object per line",
        where=where,
        fix="convert it, for instance with: jq -c '.[]' data.json > data.jsonl",
    )
