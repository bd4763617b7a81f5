"""What the columns of a table would be good for, where the role that is looked for has none or too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from graftlm.data.column_content import ColumnContent
from graftlm.data.label_sets import is_yes_or_no
from graftlm.data.messages import FORMS
from graftlm.data.roles import NUMBER, Role, columns_for_writing
from graftlm.data.table import Table
from graftlm.errors import clip

_SHOWN = 12


def advice(table: Table, role: Role, contents: Mapping[str, ColumnContent]) -> str:
    """Return what to do where no column plays a role.

    Args:
        table: the rows.
        role: what is looked for.
        contents: the columns that are free, and what they hold.
    """
    if role.kind == "messages":  # no other column could be named in its place
        return f"in a column called {role.name}, {FORMS}"
    a_label = role.kind in ("label", "label_set")
    free = list(contents)
    if a_label:
        free.sort(key=lambda name: contents[name].distinct)
    elif role.kind == "number":
        free.sort(key=lambda name: not contents[name].numbers)
    chosen = f"data.columns.{role.name}={written(free[0]) if free else 'COLUMN'}"
    others = (
        [*flags_advice(table, free), *_number_advice(contents), *_writing_advice(table)] if a_label else []
    )
    return "; or ".join([*others, f"name the {role.name}: {chosen}" if others else f"name it: {chosen}"])


def flags_advice(table: Table, columns: Sequence[str]) -> list[str]:
    """Return how several columns of 0 and 1 become the labels of a row; nothing where there are no such columns."""
    flags = [name for name in columns if is_yes_or_no(table.columns[name])]
    if len(flags) < 2:
        return []
    listed = ", ".join(map(written, sorted(flags, key=list(table.columns).index)))
    return [f"for any of these labels in a row: data.label_columns='[{listed}]'"]


def written(name: str) -> str:
    """Return a column as it is written in an override."""
    return name if name.isidentifier() else f'"{name[:40]}"'


def _number_advice(contents: Mapping[str, ColumnContent]) -> list[str]:
    """A column of numbers with fractions, or one that is called as numbers are; whole ones may count the rows."""
    found = [name for name, content in contents.items() if content.numbers or content.written_numbers]
    called = [name for name in found if name.strip().lower() in (NUMBER.name, *NUMBER.hints)]
    telling = called or [name for name in found if contents[name].numbers_with_fraction]
    return [
        f"to predict the number in {clip(name)}: task.name=text_regression data.columns.number={written(name)}"
        for name in telling[:1]
    ]


def _writing_advice(table: Table) -> list[str]:
    """Columns that are called as source and target of writing, or texts that stand together in one column."""
    nested = {
        name: list(cast("dict[str, object]", values[0]))
        for name, values in table.columns.items()
        if values and all(isinstance(value, dict) for value in values)
    }
    pair = columns_for_writing(name for name in table.columns if name not in nested)
    if pair is not None:
        source, target = pair
        return [
            f"to write {clip(target)} from {clip(source)} (one column; join several into one): "
            f"task.name=text_generation data.columns.source={written(source)} data.columns.target={written(target)}"
        ]
    return [
        f"give each part of {clip(name)} ({', '.join(map(clip, keys[:_SHOWN]))}) a column of its own"
        for name, keys in nested.items()
    ]
