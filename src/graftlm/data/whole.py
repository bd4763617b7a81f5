"""The rows of a source as one split, for prediction and evaluation: all, or those of one split; nothing is carved."""

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


def assemble_rows(
    tables: Tables,
    roles: Sequence[Role],
    options: DataOptions,
    said: list[str],
    wanted: str | None = None,
    usual: Sequence[str] = ("test",),
    choosable: bool = False,
) -> Split:
    """Return the rows of a single table, or of one split where the source has splits, by files or by a column.

    Sentences about which rows were taken, and what was skipped, turned or left out, are added to ``said``.

    Args:
        tables: the source.
        roles: of its columns.
        options: how they are read.
        said: is added to.
        wanted: train, validation or test; None: the first of ``usual`` where there are splits, else all.
        usual: splits that will do, the best one first.
        choosable: whether the user can name a split, with ``--split``.

    Raises:
        DataError: a column is missing, a value does not fit its role, or there are splits and not this one.
        ConfigurationError: ``data.split_column`` names no column, or the source has splits without it, or none.
    """
    if options.split_column is not None and "all" not in tables.splits:
        raise ConfigurationError(
            f"the data already come in splits ({', '.join(tables.splits)})",
            where="data.split_column",
            fix="leave split_column out",
        )
    single = "all" in tables.splits
    if wanted is not None and single and options.split_column is None:
        raise ConfigurationError(
            f"this source has no splits, so none is called {wanted}",
            where="--split",
            fix="leave it out, or name the column that tells the split of each row: data.split_column=...",
        )
    sought = ["all"] if single else [wanted] if wanted is not None else usual
    name = next((name for name in sought if name in tables.splits), None)
    if name is None:
        other = (
            f", or another split (graft evaluate --split {next(iter(tables.splits))})" if choosable else ""
        )
        raise DataError(
            f"this source has the splits {', '.join(tables.splits)}, and no {' or '.join(sought)} split",
            where=tables.origin,
            fix=f"name the file of the rows you mean{other}",
        )
    if len(tables.splits) > 1:
        others = ", ".join(other for other in tables.splits if other != name)
        said.append(f"Rows are those of the {name} split of {tables.origin}; {others} left aside.")
    table = with_joined_labels(tables, roles, options).splits[name]
    reserved = {column for column in (options.group_column, options.split_column) if column is not None}
    said += table.said
    assignment = assign_roles(table, roles, options.columns, reserved, tables.known_columns)
    said.append(columns_sentence(table, assignment, roles, options))
    split = split_of_table(name, table, roles, assignment, options, said)
    if options.split_column is None:
        return split
    return _called(split, table, options.split_column, wanted, usual, said)


def _called(
    split: Split, table: Table, column: str, wanted: str | None, usual: Sequence[str], said: list[str]
) -> Split:
    """Return the rows that a column calls so; without a wish all, where it calls none test or train."""
    rows, sought = rows_by_split(table, column), usual if wanted is None else [wanted]
    name = next((name for name in sought if name in rows), None)
    if name is not None:
        said.append(
            f"Rows are those that column {clip(column)} calls {name}, {len(rows[name]):,} of "
            f"{counted(len(split), 'row')} (data.split_column=null takes all)."
        )
        return split.take(rows[name], name)
    if wanted is None and not rows.keys() & {"train", "test"}:
        return split
    raise DataError(
        f"the split column {clip(column)} calls rows {' and '.join(rows)}, and none {' or '.join(sought)}",
        where=table.source,
        fix="name a file of just the rows you mean, or take all of them: data.split_column=null",
    )
