"""Values of a column -> what its role promises: texts are strings, labels are names, numbers are finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graftlm.data import tagged_words
from graftlm.data.answers import answers
from graftlm.data.label_sets import label_sets
from graftlm.data.messages import conversation, conversations
from graftlm.data.numbers import numbers
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, counted_with, first_places
from graftlm.data.roles import WORDS, Role
from graftlm.data.table import Table
from graftlm.errors import DataError, clip


def role_values(
    table: Table,
    column: str,
    role: Role,
    options: DataOptions,
    before: Mapping[str, list[object]],
    said: list[str],
) -> list[object]:
    """Return the values of ``column`` as ``role`` needs them.

    Text must be a string and is not touched. A label is a string, or an integer or truth value that is turned
    into its name (``3`` -> ``"3"``, True -> ``"True"``); a column mixes none of these. For the other kinds see
    `label_sets`, `numbers`, `answers`, `tagged_words` and `messages`. A target is a text that is not empty.

    Args:
        table: the rows.
        column: one of its columns.
        role: what it is for.
        options: the ``data`` section of the recipe.
        before: values of the roles before this one; tags must fit the words.
        said: sentences about what was turned or left out are added here.

    Raises:
        DataError: missing or empty labels, other types, mixed types; with counts and the first places.
    """
    values = table.columns[column]
    match role.kind:
        case "text":
            return _texts(table, column, role, values)
        case "target":
            return _targets(table, column, role, values)
        case "messages":
            return conversations(table, column)
        case "label":
            return _labels(table, column, role, values)
        case "label_set":
            return label_sets(table, column, options.label_separator)
        case "number":
            return numbers(table, column)
        case "answers":
            return answers(table, column)
        case "words":
            return tagged_words.words(table, column)
        case "tags" | "entities":
            return tagged_words.tags(table, column, role, before[WORDS.name], options, said)


def _texts(table: Table, column: str, role: Role, values: list[object]) -> list[object]:
    kinds = Counter(map(type, values))
    if all(issubclass(kind, str) for kind in kinds):
        return values
    wrong = [row for row, value in enumerate(values) if not isinstance(value, str)]
    raise DataError(
        f"the {role.name} column {clip(column)} must hold strings, but {counted_with(len(wrong), 'row', 'hold')} "
        f"{_kinds(kinds, str)}; first: {_first(table, wrong)}",
        where=table.source,
        fix=_remedy(role, values[wrong[0]]),
    )


def _remedy(role: Role, value: object) -> str:
    if not isinstance(conversation(value), str):
        return "for task.name=dialogue, join the messages before the reply and the reply to one list called messages"
    if role.kind == "target" and isinstance(value, list | tuple):
        return "give each row one text: the first of several, or a row for each of them"
    return f"convert or remove these rows, or name another column: data.columns.{role.name}=..."


def _targets(table: Table, column: str, role: Role, values: list[object]) -> list[object]:
    texts = _texts(table, column, role, values)
    blank = _blank(texts)
    if blank:
        raise DataError(
            f"the {role.name} column {clip(column)} is empty in {counted(len(blank), 'row')}; first: "
            f"{_first(table, blank)}",
            where=table.source,
            fix="give every row the text that should be written, or remove these rows",
        )
    return texts


def _labels(table: Table, column: str, role: Role, values: list[object]) -> list[object]:
    kinds = Counter(map(type, values))
    what = f"the {role.name} column {clip(column)}"
    missing = [row for row, value in enumerate(values) if value is None] if type(None) in kinds else []
    if any(issubclass(kind, str) for kind in kinds):
        missing += _blank(values)
    if missing:
        raise DataError(
            f"{what} is empty in {counted(len(missing), 'row')}; first: {_first(table, sorted(missing))}",
            where=table.source,
            fix="give every row a label, or remove these rows",
        )
    if float in kinds:
        wrong = [row for row, value in enumerate(values) if isinstance(value, float)]
        raise DataError(
            f"{what} holds fractional numbers in {counted(len(wrong), 'row')} (for instance "
            f"{clip(values[wrong[0]])}); expected names or whole numbers; first: {_first(table, wrong)}",
            where=table.source,
            fix="pandas turns whole numbers into fractions where a value is missing: fill or drop the "
            "missing ones and convert the column with astype(int) or astype(str)",
        )
    allowed = [kind for kind in kinds if issubclass(kind, str | int)]
    if len(allowed) < len(kinds):
        wrong = [row for row, value in enumerate(values) if not isinstance(value, str | int)]
        raise DataError(
            f"{what} must hold names or whole numbers, but {counted_with(len(wrong), 'row', 'hold')} "
            f"{_kinds(kinds, str, int, bool)}; first: {_first(table, wrong)}",
            where=table.source,
            fix="for any number of labels in a row set task.name=multi_label_classification"
            if list in kinds
            else "write each label as a string",
        )
    if len(kinds) > 1:
        parts = [_kind_with_first(table, values, kind, count) for kind, count in kinds.most_common()]
        raise DataError(
            f"{what} mixes types: {'; '.join(parts)}",
            where=table.source,
            fix="write every label in one way, best as a string; 1 and '1' would be the same label",
        )
    # One object per name: a million rows hold a handful of labels.
    names: dict[object, object] = {}
    return [names.setdefault(value, str(value)) for value in values]


def _blank(values: Sequence[object]) -> list[int]:
    blank = {value for value in set(map(_string_or_none, values)) if value is not None and not value.strip()}
    return (
        [row for row, value in enumerate(values) if isinstance(value, str) and value in blank]
        if blank
        else []
    )


def _string_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _kind_with_first(table: Table, values: Sequence[object], kind: type, count: int) -> str:
    rows = [row for row, value in enumerate(values) if type(value) is kind]
    return f"{counted(count, 'row')} with {kind.__name__} (first {_first(table, rows[:1])})"


def _kinds(kinds: Counter[type], *fine: type) -> str:
    names = {type(None): "nothing (missing)"}
    return ", ".join(names.get(kind, kind.__name__) for kind in kinds if kind not in fine)


def _first(table: Table, rows: Sequence[int]) -> str:
    return first_places([table.place(row) for row in rows[:5]], len(rows))
