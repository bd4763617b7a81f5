"""Rows for a finished model, to predict or to score: nothing carved, nothing unusable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftlm.checking.text_checks import check_texts
from graftlm.data.dataset import Dataset, Split
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.data.roles import INPUT_KINDS, Role, present
from graftlm.data.split_names import find_split_column, names_splits
from graftlm.data.table import Tables
from graftlm.data.whole import assemble_rows
from graftlm.data.words import as_text
from graftlm.errors import DataError
from graftlm.progress import Progress

# Which recipe keys matter to a model that is finished: how rows are read, and how they are computed.
READING_KEYS = (
    "data.columns",
    "data.group_column",
    "data.label_separator",
    "data.label_columns",
    "data.tag_names",
    "data.drop_empty_text",
    "data.drop_misfit_spans",
    "data.format",
    "data.encoding",
    "data.delimiter",
    "data.max_row_bytes",
)
COMPUTING_KEYS = ("training.device", "evaluation.batch_tokens")
SCORING_KEYS = (*READING_KEYS, "data.split_column")
"""How rows that are scored are read."""
EVALUATION_KEYS = (*SCORING_KEYS, *COMPUTING_KEYS, "evaluation.confidence", "evaluation.resamples", "seed")


def read_unseen(
    data: object,
    roles: Sequence[Role],
    options: DataOptions,
    reading: Mapping[str, Any],
    progress: Progress,
    usual: Sequence[str] = (),
    wanted: str | None = None,
    choosable: bool = False,
) -> Split:
    """Return the rows of ``data`` (None reads ``options.path``), in order.

    Of a source in splits the first of ``usual`` is taken, test where nothing is said. With ``usual`` a column that
    names the split of each row counts as well, as a training reads it. ``wanted`` is another split; ``choosable``: the
    user can ask for it.

    What ``options`` leave open is read as the training rows were (``reading``): by the same columns, where they are
    there. Rows with an empty text are refused, or left out aloud where ``options.drop_empty_text`` says so.

    Raises:
        DataError: the source is malformed, or holds texts that no model can read.
    """
    said: list[str] = []
    tables = read_tables(data, options)
    options = _as_in_training(tables, roles, options, reading)
    if usual:
        options = _with_split_column(tables, options, reading)
    split = assemble_rows(tables, roles, options, said, wanted, usual or ("test",), choosable)
    for sentence in said:
        progress.say(sentence)
    names = [role.name for role in present(roles, split) if role.kind in INPUT_KINDS]
    if options.drop_empty_text:
        kept = [
            row
            for row in range(len(split))
            if all(as_text(split.columns[name][row]).strip() for name in names)
        ]
        if len(kept) < len(split):
            progress.warn(f"{counted(len(split) - len(kept), 'row')} with an empty text left out")
            split = split.take(kept)
    findings = [
        item for item in check_texts(Dataset({split.name: split}, ""), names) if item.severity == "error"
    ]
    if findings:
        raise DataError("these rows cannot be used:" + "".join(f"\n  - {item}" for item in findings))
    return split


def _as_in_training(
    tables: Tables, roles: Sequence[Role], options: DataOptions, reading: Mapping[str, Any]
) -> DataOptions:
    """Return the options with what the user left open as it was in training; a name alone may mislead."""
    there = {name for table in tables.splits.values() for name in table.columns}
    labelled = any(role.kind == "label_set" for role in roles)
    tagged = any(role.kind in ("tags", "entities") for role in roles)
    changes: dict[str, Any] = {}
    for key, fits in (
        ("label_separator", labelled),
        ("label_columns", labelled and set(reading.get("label_columns", [])) <= there),
        ("tag_names", tagged),
    ):
        if fits and key in reading and key not in options.model_fields_set:
            changes[key] = reading[key]
    columns: dict[str, str] = reading.get("columns", {})
    names = {role.name for role in roles}
    changes["columns"] = {
        role: column
        for role, column in columns.items()
        if role in names and column in there and column not in options.columns.values()
    } | options.columns
    return options.model_copy(update=changes)


def _with_split_column(tables: Tables, options: DataOptions, reading: Mapping[str, Any]) -> DataOptions:
    """Return the options with the column that names splits, that of training or one that a training would take."""
    if "split_column" in options.model_fields_set or set(tables.splits) != {"all"}:
        return options
    columns = tables.splits["all"].columns
    trained = reading.get("split_column")
    column = trained if trained in columns and names_splits(columns[trained]) else find_split_column(columns)
    taken = {options.group_column, *options.label_columns, *options.columns.values()}
    return options if column in taken else options.model_copy(update={"split_column": column})
