"""Data given in memory -> tables: a DataFrame, a ``datasets`` object, a list of dicts, or splits of these.

Objects of pandas, datasets and numpy are recognised by the module of their class, so that none of these
libraries is loaded by us.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from graftlm.data.delimited import unique_names
from graftlm.data.places import counted, counted_with
from graftlm.data.records import table_of_records
from graftlm.data.split_names import KNOWN_SPLIT_NAMES, split_of
from graftlm.data.table import Table, Tables
from graftlm.errors import DataError, clip

_EXPECTED = (
    "a path, a pandas DataFrame, a datasets.Dataset or DatasetDict, a list of dicts, "
    "or a dict of split name -> any of these"
)


def tables_in_memory(data: object) -> Tables:
    """Turn an object in memory into tables, ``{"all": table}`` for a single one.

    Raises:
        DataError: the object is of no known kind, has no rows, or its rows or columns are malformed.
    """
    if not isinstance(data, Mapping):
        table = table_of(data)
        return Tables({"all": table}, f"{table.source}, {counted(len(table), 'row')}")
    splits, decisions = split_tables(cast("Mapping[object, object]", data))
    sizes = ", ".join(f"{name} {len(table):,}" for name, table in splits.items())
    return Tables(splits, f"{type(data).__name__} in memory ({sizes} rows)", decisions)


def split_tables(data: Mapping[object, object], source: str = "") -> tuple[dict[str, Table], list[str]]:
    """Read a mapping of split name -> object; return its tables by our names, and what was left aside.

    Args:
        data: split name -> object in memory.
        source: what the tables are called in messages, before the split name; the kind of object by default.
    """
    splits: dict[str, Table] = {}
    given: dict[str, object] = {}
    ignored: list[str] = []
    for name, rows in data.items():
        split = split_of(name) if isinstance(name, str) else None
        if split is None:
            ignored.append(clip(name))
        elif split in given:
            raise DataError(
                f"both {given[split]!r} and {name!r} would be the {split} split", fix="give one of them"
            )
        else:
            given[split] = name
            splits[split] = table_of(rows, str(name), source)
    if "train" not in splits:
        raise DataError(
            f"a dict must map split names to rows and hold train; its keys are {', '.join(map(clip, data))}; "
            f"known names: {KNOWN_SPLIT_NAMES}",
            fix="for columns in memory, give a pandas DataFrame or a list of dicts",
        )
    decisions = [f"Left aside, no split of a known name: {', '.join(ignored)}."] if ignored else []
    return splits, decisions


def table_of(data: object, split: str = "", source: str = "") -> Table:
    """Turn a single object in memory into a table.

    Args:
        data: a DataFrame, a datasets.Dataset or a list of dicts.
        split: what its split is called, for messages.
        source: what it is called in messages; the kind of object by default.

    Raises:
        DataError: the object is of no known kind, has no rows, or its rows or columns are malformed.
    """
    suffix = f" ({split})" if split else ""
    if _is_a(data, "pandas", "DataFrame"):
        return _table_of_frame(cast("Any", data), (source or "DataFrame") + suffix)
    if _is_a(data, "datasets", "Dataset"):
        return _table_of_hub_dataset(cast("Any", data), (source or "datasets.Dataset") + suffix)
    if isinstance(data, list | tuple):
        name = (source or "list of dicts") + suffix
        return _plain_values(table_of_records(_numbered(cast("Sequence[object]", data), name), name, "row"))
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    raise DataError(
        f"data of type {kind} is not understood; expected {_EXPECTED}", fix="convert it to one of these"
    )


def column_names(data: object) -> list[object] | None:
    """Return the names of the columns of a DataFrame or a datasets.Dataset; None for any other object."""
    if _is_a(data, "pandas", "DataFrame"):
        return list(cast("Any", data).columns)
    return list(cast("Any", data).column_names) if _is_a(data, "datasets", "Dataset") else None


def chosen_columns(data: Any, names: Sequence[str]) -> Mapping[str, list[object]]:
    """Return the plain values of some columns of a DataFrame or a datasets.Dataset, which may have no rows.

    Raises:
        DataError: a name is that of several columns.
    """
    if not len(data):
        return {name: [] for name in names}
    chosen = data[list(names)] if _is_a(data, "pandas", "DataFrame") else data.select_columns(list(names))
    return table_of(chosen).columns


def _is_a(data: object, package: str, name: str) -> bool:
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package for base in type(data).__mro__
    )


def _numbered(rows: Sequence[object], source: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"is {clip(type(row).__name__)}, expected a dict", where=f"{source}, row {number}",
                fix='give rows such as {"text": "...", "label": "..."}',
            )  # fmt: skip
        record = cast("Mapping[object, object]", row)
        for key in record:
            if not isinstance(key, str):
                raise DataError(
                    f"the key {clip(key)} is not a string",
                    where=f"{source}, row {number}",
                    fix="name the columns",
                )
        yield number, cast("Mapping[str, object]", record)


def _table_of_frame(frame: Any, source: str) -> Table:
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"the column name {clip(name)} is not a name", where=source, fix="rename the column"
            )
    unique_names(names, source)
    if not len(frame):
        raise DataError("has no rows", where=source, fix="give at least one row")
    columns: dict[str, list[object]] = {}
    for name in names:
        missing = frame[name].isna()
        values: list[object] = frame[name].tolist()
        if missing.any():
            values = [None if gap else value for value, gap in zip(values, missing.tolist(), strict=True)]
        columns[name] = values
    return _plain_values(Table(source, columns, None, typed=True))


def _table_of_hub_dataset(dataset: Any, source: str) -> Table:
    if not len(dataset):
        raise DataError("has no rows", where=source, fix="give at least one row")
    plain = dataset.with_format(None)  # a format set for torch or numpy would turn values into tensors
    columns: dict[str, list[object]] = {}
    for name, feature in plain.features.items():
        values: list[object] = list(plain[name])
        if _is_a(feature, "datasets", "ClassLabel"):
            values = _class_names(
                cast("list[int | None]", values), list(feature.names), f"{source}, column {name!r}"
            )
        elif _is_a(inner := getattr(feature, "feature", None), "datasets", "ClassLabel"):
            names = list(cast("Any", inner).names)
            values = [
                None if value is None else _class_names(value, names, f"{source}, column {name!r}, row {row}")
                for row, value in enumerate(cast("list[list[int | None] | None]", values), 1)
            ]
        columns[name] = values
    return _plain_values(Table(source, columns, None, typed=True))


def _class_names(numbers: list[int | None], names: list[str], where: str) -> list[object]:
    # Names, never positions: the same number may mean another label in another data set. -1 means unlabelled.
    wrong = [
        row for row, number in enumerate(numbers, 1) if number is not None and not -1 <= number < len(names)
    ]
    if wrong:
        raise DataError(
            f"{counted_with(len(wrong), 'row', 'hold')} a class number outside 0 to {len(names) - 1}, the first is "
            f"{numbers[wrong[0] - 1]} in row {wrong[0]}",
            where=where,
            fix="repair the ClassLabel feature or the numbers",
        )
    return [None if number is None or number < 0 else names[number] for number in numbers]


def _plain_values(table: Table) -> Table:
    """Replace numpy scalars by Python values, and NaN, NA and NaT by None."""
    plain = (str, int, bool, type(None))
    for name, values in table.columns.items():
        if not set(map(type, values)) <= set(plain):
            table.columns[name] = [value if type(value) in plain else _plain(value) for value in values]
    return table


def _plain(value: object) -> object:
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        value = cast("Any", value).tolist()  # a scalar becomes a number, an array (of a parquet file) a list
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    # np.str_ is gone by now; any other subclass of str is text all the same.
    return str(value) if isinstance(value, str) else value
