"""Which column plays which role: chosen by the user, else known, else told by its name, else by what it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from graftlm.data.column_advice import advice, flags_advice, written
from graftlm.data.column_content import ColumnContent, describe_content
from graftlm.data.roles import INPUT_KINDS, Role
from graftlm.data.table import Table
from graftlm.errors import ConfigurationError, DataError, clip, nearest

_EXPECTED = {
    "text": "strings, mostly different",
    "label": "few short values that repeat",
    "label_set": "lists of names, or names joined by data.label_separator",
    "number": "numbers, at least one with a fraction",
    "answers": "lists of texts with answer_start",
    "words": "lists of words, or texts",
    "tags": "lists with a tag for each word",
    "entities": "lists with a tag for each word, or lists of character spans",
    "target": "texts to be written",
    "messages": "lists of messages with role and content",
}


@dataclass(frozen=True)
class Assignment:
    """Role -> column, and a sentence about each for the user."""

    columns: dict[str, str]
    reasons: list[str]


def assign_roles(
    table: Table,
    roles: Sequence[Role],
    chosen: Mapping[str, str],
    reserved: Collection[str],
    known: Mapping[str, str] = MappingProxyType({}),
) -> Assignment:
    """Find the column of every role.

    Args:
        table: the rows to look at.
        roles: what the task needs.
        chosen: role -> column, given by the user (``data.columns``).
        reserved: columns with another purpose (groups, splits), never inferred.
        known: role -> column, as the source says itself (`Tables.known_columns`).

    Raises:
        ConfigurationError: ``chosen`` names an unknown role or column, or one column for two roles.
        DataError: no column, or several equally good ones, for a role.
    """
    columns: dict[str, str] = _checked_choice(table, roles, chosen)
    reasons = {name: f"{name}: column {clip(column)} (chosen)" for name, column in columns.items()}
    for role in roles:
        column = known.get(role.name)
        if (
            role.name not in columns
            and column in table.columns
            and column not in {*reserved, *columns.values()}
        ):
            columns[role.name] = column
            reasons[role.name] = f"{role.name}: column {clip(column)} (official)"
    for role in roles:
        if role.name not in columns:
            free = [name for name in table.columns if name not in reserved and name not in columns.values()]
            named = _by_name(table, role, free)
            if named is not None:
                columns[role.name] = named
                reasons[role.name] = f"{role.name}: column {clip(named)} (its name says so)"
    _refuse_several_texts(table, [role for role in roles if role.name not in columns])
    # Texts last: a column of few repeated values, or of numbers, is easier to tell than the text among the others.
    for role in sorted(roles, key=lambda role: role.kind in INPUT_KINDS):
        if role.name not in columns and not role.optional:
            free = [name for name in table.columns if name not in reserved and name not in columns.values()]
            columns[role.name], why = _by_content(table, role, free)
            reasons[role.name] = f"{role.name}: column {clip(columns[role.name])} ({why})"
    for role in roles:
        if role.kind == "label":
            _refuse_regression_target(table, columns[role.name])
    names = [role.name for role in roles if role.name in columns]
    return Assignment({name: columns[name] for name in names}, [reasons[name] for name in names])


def _checked_choice(table: Table, roles: Sequence[Role], chosen: Mapping[str, str]) -> dict[str, str]:
    known = [role.name for role in roles]
    for role, column in chosen.items():
        key = f"data.columns.{role}"
        if role not in known:
            raise ConfigurationError(
                f"the task has no role {role!r}.{nearest(role, known)} Roles: {', '.join(known)}", where=key
            )
        if column not in table.columns:
            raise ConfigurationError(
                f"{table.source} has no column {clip(column)}.{nearest(column, table.columns)} "
                f"Columns: {_listed(table.columns)}",
                where=key,
                fix="name one of these columns",
            )
        twin = next((other for other in chosen if other != role and chosen[other] == column), None)
        if twin is not None:
            raise ConfigurationError(f"column {clip(column)} is also data.columns.{twin}", where=key)
    return dict(chosen)


def _by_name(table: Table, role: Role, free: Sequence[str]) -> str | None:
    exact = [name for name in free if _bare(name) == role.name.lower()]
    matching = exact or [name for name in free if _bare(name) in role.hints]
    if len(matching) > 1:
        raise _ambiguous(table, role, matching, "their names fit equally well")
    return matching[0] if matching else None


def _bare(name: str) -> str:
    return name.strip().lower()


def _by_content(table: Table, role: Role, free: Sequence[str]) -> tuple[str, str]:
    contents = {name: describe_content(table.columns[name]) for name in free}
    candidates = [name for name in free if contents[name].fits(role.kind)]
    if role.kind in ("text", "words") and not candidates:
        candidates = _longest_texts(contents)
    # A first row that reads as data, not as names, would be lost silently.
    _refuse_missing_header(table)
    if len(candidates) > 1:
        raise _ambiguous(table, role, candidates, "their contents fit equally well")
    if not candidates:
        raise DataError(
            f"no column looks like the {role.name} ({_EXPECTED[role.kind]}); columns: {_listed(table.columns)}",
            where=table.source,
            fix=advice(table, role, contents),
        )
    return candidates[0], contents[candidates[0]].reason(role.kind)


def _refuse_several_texts(table: Table, roles: Sequence[Role]) -> None:
    """Which of two texts is the question and which the context, or the target, is not told by what they hold."""
    texts = [role.name for role in roles if role.kind in ("text", "target") and not role.optional]
    if len(texts) > 1:
        raise DataError(
            f"no column is called {' or '.join(texts)}; columns: {_listed(table.columns)}",
            where=table.source,
            fix=f"name them: {' '.join(f'data.columns.{name}=COLUMN' for name in texts)}",
        )


def _longest_texts(contents: Mapping[str, ColumnContent]) -> list[str]:
    texts = [name for name, content in contents.items() if content.text_like]
    longest = max((contents[name].mean_length for name in texts), default=0.0)
    # A text twice as long as every other is the text; a title beside a summary is a question to the user.
    return [name for name in texts if contents[name].mean_length * 2 > longest]


def _refuse_missing_header(table: Table) -> None:
    if table.typed:
        return
    for name, values in table.columns.items():
        if name in values or len(name.split()) >= 6:
            raise DataError(
                f"the first line looks like a row, not like column names: {clip(name)} "
                f"{'is also a value of its column' if name in values else 'reads like a text'}",
                where=f"{table.source}:1",
                fix="add a first line that names the columns, for instance text and label",
            )


def _refuse_regression_target(table: Table, column: str) -> None:
    content = describe_content(table.columns[column])
    if content.numbers_with_fraction and content.distinct > max(20, content.rows // 100):
        raise DataError(
            f"the label column {clip(column)} holds numbers with fractions ({content.distinct:,} different "
            f"of {content.rows:,} looked at): this is a regression target, not a class",
            where=table.source,
            fix="predict the number with task.name=text_regression, or name a column of classes "
            "(data.columns.label=...)",
        )


def _ambiguous(table: Table, role: Role, candidates: Sequence[str], why: str) -> DataError:
    choices = " or ".join(f"data.columns.{role.name}={written(name)}" for name in candidates[:3])
    together = flags_advice(table, candidates) if role.kind in ("label", "label_set") else []
    return DataError(
        f"which column is the {role.name}? Candidates: {_listed(candidates)}; {why}",
        where=table.source,
        fix="; ".join([f"choose one: {choices}", *together]),
    )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(clip(name) for name in list(names)[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
