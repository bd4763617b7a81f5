"""Rows given to a finished model in Python -> a split: texts, rows of several parts, or a table with columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from graftlm.data.dataset import Split
from graftlm.data.memory import chosen_columns, column_names
from graftlm.data.messages import Conversation, conversation
from graftlm.data.roles import Role
from graftlm.errors import DataError, clip

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def split_of_rows(rows: object, roles: Sequence[Role], trained: Mapping[str, str]) -> Split:
    """Return rows as one split, in order.

    A table (a pandas DataFrame or a datasets.Dataset) is read by its columns, a row that is a dict by its keys: all
    called as in training, else all called like their roles. A row of several parts may be a tuple in the order of the
    roles. Columns and keys beside these are left aside.

    Args:
        rows: any iterable of rows, or a table.
        roles: what a row has to have.
        trained: role -> its column in training; a role left out was called by its own name.

    Raises:
        DataError: this is something else than rows, a part is missing, or a value cannot be read.
    """
    names = [role.name for role in roles]
    schemes = [[trained.get(name, name) for name in names], names]
    there = column_names(rows)
    if there is not None:
        columns = _columns(rows, there, roles, schemes)
    else:
        columns = {name: [] for name in names}
        readings = [(columns[role.name].append, role.kind, _called(roles, role)) for role in roles]
        for position, row in enumerate(_iterable(rows, schemes)):
            parts = _parts(row, roles, schemes, position)
            for (add, kind, called), value in zip(readings, parts, strict=True):
                add(_checked(value, kind, f"{called} {position} (0-based)"))
    return Split("prediction", columns, [f"text {row}" for row in range(len(columns[names[0]]))])


def _columns(
    table: object, there: Sequence[object], roles: Sequence[Role], schemes: Sequence[Sequence[str]]
) -> dict[str, list[object]]:
    scheme = _fitting(schemes, there)
    if scheme is None:
        known = " or ".join(dict.fromkeys(" and ".join(map(clip, scheme)) for scheme in schemes))
        alone = "" if len(roles) > 1 else ", or give the texts alone: predictor(rows[COLUMN])"
        raise DataError(
            f"the model reads {known}; the columns of these rows: {_listed(there)}",
            fix=f"rename the columns{alone}",
        )
    values = chosen_columns(table, scheme)
    return {
        role.name: [
            _checked(value, role.kind, f"{_called(roles, role)} {position} (0-based)")
            for position, value in enumerate(values[column])
        ]
        for role, column in zip(roles, scheme, strict=True)
    }


def _fitting(schemes: Sequence[Sequence[str]], there: Collection[object]) -> Sequence[str] | None:
    """Return the first way to call the parts that names all of them; two ways are never mixed."""
    return next((scheme for scheme in schemes if all(name in there for name in scheme)), None)


def _iterable(rows: object, schemes: Sequence[Sequence[str]]) -> Iterable[object]:
    if isinstance(rows, str | bytes):
        raise DataError("a list of texts is wanted, got one text", fix="write predictor([text])")
    if isinstance(rows, Mapping):
        given = cast("Mapping[object, object]", rows)
        scheme = _fitting(schemes, given) or ()
        values = ", ".join(f'rows["{name}"]' for name in scheme)
        columns = f"zip({values})" if len(scheme) > 1 else values
        raise DataError(
            f"a list of rows is wanted, got one {type(rows).__name__} with {_listed(given)}",
            fix="for one row write predictor([row])"
            + (f"; for columns of values predictor({columns})" if scheme else ""),
        )
    # Answers come in the order of the rows, and a set has none.
    if not isinstance(rows, Iterable) or isinstance(rows, set | frozenset):
        raise DataError(
            f"a list of rows is wanted, got {type(rows).__name__}", fix="write predictor([row, row, ...])"
        )
    return cast("Iterable[object]", rows)


def _parts(
    row: object, roles: Sequence[Role], schemes: Sequence[Sequence[str]], position: int
) -> Sequence[object]:
    if isinstance(row, Mapping):
        given = cast("Mapping[object, object]", row)
        scheme = _fitting(schemes, given)
        if scheme is not None:
            return [given[name] for name in scheme]
        found = f"one with {_listed(given)}"
    elif len(roles) == 1:
        return (row,)
    elif isinstance(row, list | tuple) and len(parts := cast("Sequence[object]", row)) == len(roles):
        return parts
    else:
        found = type(row).__name__
    names = " or ".join(dict.fromkeys(", ".join(scheme) for scheme in schemes))
    wanted = f"a dict with {names}"
    if len(roles) > 1:
        wanted += f" (or a tuple of {', '.join(schemes[-1])})"
        fix = f"write predictor([({', '.join(schemes[-1])}), ...])"
    elif roles[0].kind == "messages":
        fix = "a row is a whole conversation: for a single one write predictor([messages])"
    else:
        fix = "rename the key, or give the texts alone"
    raise DataError(f"{wanted} is wanted, got {found}", where=f"row {position} (0-based)", fix=fix)


def _listed(names: Collection[object]) -> str:
    shown = ", ".join(clip(name) for name in islice(names, 12))
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "nothing"


def _called(roles: Sequence[Role], role: Role) -> str:
    return "text" if len(roles) == 1 else role.name


def _checked(value: Any, kind: str, where: str) -> object:
    if kind == "messages":
        return _checked_messages(value, where)
    if kind != "words" or not isinstance(value, list | tuple):
        return _checked_text(value, where)
    given = cast("Sequence[Any]", value)
    if not all(isinstance(word, str) and word for word in given):
        raise DataError(
            "a list of words is wanted, none of them empty", where=where, fix="leave out what is no word"
        )
    _checked_text(" ".join(given), where)
    return tuple(given)


def _checked_messages(value: Any, where: str) -> Conversation:
    messages = conversation(value)
    if isinstance(messages, str):
        raise DataError(
            f"no conversation: {messages}", where=where, fix='write [{"role": "user", "content": "..."}, ...]'
        )
    for message in messages:
        _checked_text(message.content, where)
    return messages


def _checked_text(text: Any, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"a non-empty text is wanted, got {clip(text)}",
            where=where,
            fix="leave this row out, or give it a text",
        )
    if _LONE_SURROGATE.search(text):
        raise DataError(
            "half of a surrogate pair, which is no character",
            where=where,
            fix='repair it: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")',
        )
    return text
