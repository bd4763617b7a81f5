"""Any number of labels for each row: lists, names joined by a separator, or one column per label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from graftlm.data.places import counted, counted_with, first_places
from graftlm.data.table import Table
from graftlm.errors import ConfigurationError, DataError, clip, nearest

_WRITTEN_LIST = re.compile(r"""\[(?:\s*(['"]).*\1\s*|[-+\d.,\s]*)\]""", re.DOTALL)
_YES_OR_NO = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}


def label_sets(table: Table, column: str, separator: str) -> list[object]:
    """Return a sorted tuple of label names for each row; an empty list, string or cell is no label at all.

    Args:
        table: where the column is.
        column: lists (of strings or whole numbers), or strings such as ``joy,anger``.
        separator: stands between the names of a string.

    Raises:
        DataError: another type, an empty name, a name twice in one row, or a column of what are no names: places of
            0 and 1, or lists that were written as text.
    """
    _refuse_places(table, column, separator)
    _refuse_written_lists(table, column)
    known: dict[tuple[str, ...], object] = {}
    result: list[object] = []
    wrong: dict[str, list[int]] = {}
    for row, value in enumerate(table.columns[column]):
        names = _names(value, separator)
        if names is None:
            wrong.setdefault("is neither a list of names nor a string", []).append(row)
        elif not all(names):
            wrong.setdefault("holds an empty name", []).append(row)
        elif len(set(names)) < len(names):
            wrong.setdefault("names a label twice", []).append(row)
        else:
            key = tuple(sorted(names))
            result.append(known.setdefault(key, key))  # one object per set: a million rows hold few
    if wrong:
        problem, rows = next(iter(wrong.items()))
        raise DataError(
            f"the labels column {clip(column)} {problem} in {counted(len(rows), 'row')} (for instance "
            f"{clip(table.columns[column][rows[0]])}); first: {_first(table, rows)}",
            where=table.source,
            fix=f"write a list of names, or names joined by {separator!r} (data.label_separator)",
        )
    return result


def joined_label_columns(table: Table, columns: Sequence[str], name: str) -> Table:
    """Return the table with one column ``name`` of label lists in place of ``columns`` of 0 and 1.

    Raises:
        ConfigurationError: there is no such column.
        DataError: a value is neither yes (1, true) nor no (0, false).
    """
    lists: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        if column not in table.columns:
            raise ConfigurationError(
                f"{table.source} has no column {clip(column)}.{nearest(column, table.columns)}",
                where="data.label_columns",
                fix="name columns of the data",
            )
        values = [_YES_OR_NO.get(str(value).strip().lower()) for value in table.columns[column]]
        wrong = [row for row, value in enumerate(values) if value is None]
        if wrong:
            raise DataError(
                f"the label column {clip(column)} must hold 1 or 0 (or true or false), but "
                f"{counted_with(len(wrong), 'row', 'hold')} something else, for instance "
                f"{clip(table.columns[column][wrong[0]])}; first: {_first(table, wrong)}",
                where=table.source,
                fix="correct these values, or leave the column out of data.label_columns",
            )
        for row, value in enumerate(values):
            if value:
                lists[row].append(column)
    others = {other: values for other, values in table.columns.items() if other not in columns}
    return replace(table, columns={**others, name: list(lists)})


def _refuse_places(table: Table, column: str, separator: str) -> None:
    """Rows such as [0, 1, 0] say which labels there are by place; read as names they would be the labels 0 and 1."""
    rows: set[tuple[bool | None, ...]] = set()
    for value in table.columns[column]:
        parts = value.split(separator) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or len(parts) < 2:
            return
        places = tuple(_YES_OR_NO.get(str(part).strip().lower()) for part in cast("Sequence[object]", parts))
        if None in places or len(places) != len(next(iter(rows), places)):
            return
        rows.add(places)
    # One row for all, without a repetition, may be the names 0 and 1 after all.
    if len(rows) > 1 or any(len(set(row)) < len(row) for row in rows):
        width = len(next(iter(rows)))
        raise DataError(
            f"each row of the labels column {clip(column)} holds {width} values that are 0 or 1 (for "
            f"instance {clip(table.columns[column][0])}): places of labels, not their names",
            where=table.source,
            fix="write the names of those labels whose place holds 1, or give each label a column of 0 and 1 and name "
            "these columns: data.label_columns='[a, b]'",
        )


def _refuse_written_lists(table: Table, column: str) -> None:
    wrong = [
        row
        for row, value in enumerate(table.columns[column])
        if isinstance(value, str) and is_written_list(value)
    ]
    if wrong:
        raise DataError(
            f"the labels column {clip(column)} holds lists written as text in {counted(len(wrong), 'row')} (for "
            f"instance {clip(table.columns[column][wrong[0]])}); first: {_first(table, wrong)}",
            where=table.source,
            fix="write lists to JSON Lines (pandas: frame.to_json('rows.jsonl', orient='records', lines=True)), or "
            "join the names by data.label_separator before writing CSV",
        )


def is_yes_or_no(values: Sequence[object]) -> bool:
    """Whether a column holds 1 (or true) and 0 (or false), both of them and nothing else."""
    return {_YES_OR_NO.get(str(value).strip().lower()) for value in values} == {True, False}


def is_written_list(text: str) -> bool:
    """Whether a text is what Python, numpy or JSON write for a list of names or numbers: ``['a', 'b']``."""
    return bool(_WRITTEN_LIST.fullmatch(text.strip()))


def _names(value: object, separator: str) -> list[str] | None:
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator)] if value.strip() else []
    if isinstance(value, list | tuple):
        parts: Sequence[object] = value
        if all(isinstance(part, str | int) for part in parts):
            return [str(part).strip() for part in parts]
    return None


def _first(table: Table, rows: Sequence[int]) -> str:
    return first_places([table.place(row) for row in rows[:5]], len(rows))
