"""All rows of a source as one split, for prediction and evaluation: nothing is carved."""

from __future__ import annotations

from collections.abc import Sequence

from graftlm.data.assembling import columns_sentence, split_of_table, with_joined_labels
from graftlm.data.columns import assign_roles
from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.data.roles import Role
from graftlm.data.table import Tables
from graftlm.errors import DataError


def assemble_rows(tables: Tables, roles: Sequence[Role], options: DataOptions, said: list[str]) -> Split:
    """Return the rows of a single table, or of the test split where the source has splits.

    Sentences about what was skipped, turned or left out are added to ``said``.

    Raises:
        DataError: a column is missing, a value does not fit its role, or there are splits but no test split.
    """
    if options.split_column is not None:
        raise DataError(
            "data.split_column divides rows for a training; here every row would be used, those of train too",
            where="data.split_column",
            fix="name a file that holds just the rows you mean",
        )
    name = "all" if "all" in tables.splits else "test"
    if name not in tables.splits:
        raise DataError(
            f"this source has the splits {', '.join(tables.splits)}, and no test split",
            where=tables.origin,
            fix="name the file of the rows you mean",
        )
    table = with_joined_labels(tables, roles, options).splits[name]
    reserved = {column for column in (options.group_column,) if column is not None}
    said += table.said
    assignment = assign_roles(table, roles, options.columns, reserved, tables.known_columns)
    said.append(columns_sentence(table, assignment, roles, options))
    return split_of_table(name, table, roles, assignment, options, said)
