"""The rows of a source as one split, for prediction and evaluation: all, or those of test; nothing is carved."""

from __future__ import annotations

from collections.abc import Sequence

from graftlm.data.assembling import columns_sentence, rows_by_split, split_of_table, with_joined_labels
from graftlm.data.columns import assign_roles
from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.data.roles import Role
from graftlm.data.table import Table, Tables
from graftlm.errors import ConfigurationError, DataError, clip


def assemble_rows(tables: Tables, roles: Sequence[Role], options: DataOptions, said: list[str]) -> Split:
    """Return the rows of a single table, or of the test split where the source has splits, by files or by a column.

    Sentences about what was skipped, turned or left out are added to ``said``.

    Raises:
        DataError: a column is missing, a value does not fit its role, or there are splits but no test split.
        ConfigurationError: ``data.split_column`` names no column, or the source has splits without it.
    """
    if options.split_column is not None and "all" not in tables.splits:
        raise ConfigurationError(
            f"the data already come in splits ({', '.join(tables.splits)})",
            where="data.split_column",
            fix="leave split_column out",
        )
    name = "all" if "all" in tables.splits else "test"
    if name not in tables.splits:
        raise DataError(
            f"this source has the splits {', '.join(tables.splits)}, and no test split",
            where=tables.origin,
            fix="name the file of the rows you mean",
        )
    table = with_joined_labels(tables, roles, options).splits[name]
    reserved = {column for column in (options.group_column, options.split_column) if column is not None}
    said += table.said
    assignment = assign_roles(table, roles, options.columns, reserved, tables.known_columns)
    said.append(columns_sentence(table, assignment, roles, options))
    split = split_of_table(name, table, roles, assignment, options, said)
    return split if options.split_column is None else _called_test(split, table, options.split_column, said)


def _called_test(split: Split, table: Table, column: str, said: list[str]) -> Split:
    """Return the rows that a column calls test; all where none is called train either."""
    rows = rows_by_split(table, column)
    if "test" in rows:
        said.append(
            f"Rows are those that column {clip(column)} calls test, {len(rows['test']):,} of "
            f"{counted(len(split), 'row')} (data.split_column=null takes all)."
        )
        return split.take(rows["test"])
    if "train" not in rows:
        return split
    raise DataError(
        f"the split column {clip(column)} calls rows {' and '.join(rows)}, and none test",
        where=table.source,
        fix="name a file of just the rows you mean, or take all of them, those of train too: data.split_column=null",
    )
