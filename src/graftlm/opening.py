"""From what a user gave (recipe or data, and overrides) to a recipe and its rows; what is not named is inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graftlm.data.column_content import describe_content
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import LABEL, columns_for_writing
from graftlm.data.split_names import find_split_column
from graftlm.data.table import Table, Tables
from graftlm.data.tag_schemes import mark_entities
from graftlm.errors import ConfigurationError, clip
from graftlm.recipe import (
    DEFAULT_MEMBERS,
    PLUG_IN_SECTIONS,
    Overrides,
    Recipe,
    load_outline,
    load_recipe,
    written_settings,
)
from graftlm.settings import Settings


def open_rows(
    file: Path | None, overrides: Overrides, data: object = None, outline: bool = False
) -> tuple[Recipe, Tables]:
    """Return the complete recipe and the tables it is about.

    Keys and names are validated, then the data are read, and only then is torch loaded: what is wrong with either is
    said within a moment.

    Args:
        file: a YAML recipe; None starts from the defaults.
        overrides: see `graftlm.recipe.load_recipe`.
        data: rows in memory; None reads ``data.path``.
        outline: do not load torch at all; such a recipe cannot be trained.

    Raises:
        ConfigurationError: a key or name is wrong, or the columns fit several tasks.
        DataError: the data cannot be read.
    """
    settings = written_settings(file, overrides)
    section: Any = settings.values.get("task") or {}
    named = not isinstance(section, dict) or "name" in section
    # The options of a task that is not known yet are looked at when it is.
    known = settings if named else replace(settings, values={**settings.values, "task": {}})
    first = load_outline(start=known)
    tables = read_tables(data, first.data)
    if not named:
        name, reason = infer_task(tables, first.data)
        settings = replace(settings, values={**settings.values, "task": {**section, "name": name}})
        because = f", because {reason}" if reason else ""
        sentence = f"The task is {name}{because} (task.name=... chooses another)."
        tables = replace(tables, decisions=[*tables.decisions, sentence])
    settings, tables = with_known_metric(settings, tables)
    settings, tables = with_split_column(settings, tables, first.data)
    recipe = load_outline(start=settings) if outline else load_recipe(start=settings)
    return recipe, tables


def with_known_metric(settings: Settings, tables: Tables) -> tuple[Settings, Tables]:
    """Return settings with the primary metric that the source is told by, and tables that say so.

    Nothing changes where the source says nothing, or the user chose a metric or another task.
    """
    section, meaning = settings.values.get("task"), tables.meaning
    if meaning is None or not isinstance(section, dict) or section.get("name") != meaning.task:
        return settings, tables
    if "primary_metric" in section:
        return settings, tables
    task = {**section, "primary_metric": meaning.primary_metric}
    sentence = (
        f"The primary metric is {meaning.primary_metric}, as for {meaning.name} "
        "(task.primary_metric=... chooses another)."
    )
    settings = replace(settings, values={**settings.values, "task": task})
    return settings, replace(tables, decisions=[*tables.decisions, sentence])


def with_split_column(settings: Settings, tables: Tables, options: DataOptions) -> tuple[Settings, Tables]:
    """Return settings with the column that says train, validation or test for each row, and tables that say so.

    Nothing changes where the rows come in splits, or the user said where they are (null: in no column).
    """
    section: Any = settings.values.get("data") or {}
    if "split_column" in section or set(tables.splits) != {"all"}:
        return settings, tables
    column = find_split_column(tables.splits["all"].columns)
    if column is None or column in {options.group_column, *options.label_columns, *options.columns.values()}:
        return settings, tables
    sentence = f"Column {clip(column)} names the split of each row (data.split_column=null leaves it aside)."
    values = {**settings.values, "data": {**section, "split_column": column}}
    return replace(settings, values=values), replace(tables, decisions=[*tables.decisions, sentence])


def infer_task(tables: Tables, options: DataOptions) -> tuple[str, str]:
    """Return the task that the columns are for, and why; the default task, without a reason, where none says so.

    Only tasks are asked that have the roles which ``data.columns`` fills.

    Raises:
        ConfigurationError: several tasks fit.
    """
    if tables.meaning is not None:
        return tables.meaning.task, f"that is the task of {tables.meaning.name}"
    table = tables.splits.get("train") or next(iter(tables.splits.values()))
    catalog = PLUG_IN_SECTIONS["task"]
    found: dict[str, str] = {}
    for name in catalog.names():
        task: Any = catalog.get(name)
        roles = {role.name for role in task.roles}
        if options.label_columns and any(role.kind == "label_set" for role in task.roles):
            return name, "data.label_columns names one column per label"
        if options.tag_names and any(role.kind == _kind_of_tags(options.tag_names) for role in task.roles):
            return name, f"data.tag_names are names of {_kind_of_tags(options.tag_names)}"
        if set(options.columns) <= roles and (reason := task.recognises(table)):
            found[name] = reason
    if len(found) > 1:
        listed = "; ".join(f"{name} ({reason})" for name, reason in found.items())
        raise ConfigurationError(
            f"the columns of {table.source} fit several tasks: {listed}",
            where="task.name",
            fix=f"choose one: task.name={next(iter(found))}",
        )
    if found:
        return next(iter(found.items()))
    _ask_about_two_texts(table, options)
    return DEFAULT_MEMBERS["task"], _beside_writing(table, options)


def _beside_writing(table: Table, options: DataOptions) -> str:
    """Why a table with columns of source and target is still one of labels; nothing where there are no such columns."""
    pair = columns_for_writing(table.columns, surely=True)
    label = next((name for name in table.columns if name.strip().lower() in LABEL.hints), None)
    if pair is None or label is None or label in pair or options.columns:
        return ""
    return (
        f"column {clip(label)} is called as labels are; to write {clip(pair[1])} from {clip(pair[0])} set "
        "task.name=text_generation"
    )


def _kind_of_tags(names: Sequence[str]) -> str:
    return "entities" if mark_entities(names) else "tags"


def _ask_about_two_texts(table: Table, options: DataOptions) -> None:
    """Two columns of texts and nothing that could be a label: one may be written from the other. Nobody guesses which.

    Raises:
        ConfigurationError: it is so.
    """
    contents = {name: describe_content(values) for name, values in table.columns.items()}
    texts = [name for name, content in contents.items() if content.text_like]
    named = {name.strip().lower() for name in table.columns} & {LABEL.name, *LABEL.hints}
    answers = any(content.label_like or content.numbers_with_fraction for content in contents.values())
    if len(texts) != 2 or len(contents) != 2 or named or answers or options.columns:
        return
    one, other = texts
    raise ConfigurationError(
        f"{table.source} holds the texts {clip(one)} and {clip(other)}, and nothing that could be a label",
        where="task.name",
        fix=f"to write {clip(other)} from {clip(one)}: task.name=text_generation data.columns.source={one} "
        f"data.columns.target={other}; for another task name it, and its columns",
    )
