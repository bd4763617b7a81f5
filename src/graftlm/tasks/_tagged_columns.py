"""Whether a table holds words with tags, by the names and the contents of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from graftlm.data.roles import ENTITIES, TAGS, WORDS
from graftlm.data.table import Table
from graftlm.data.tag_schemes import OUTSIDE, mark_entities

_LOOKED_AT = 1000


@dataclass(frozen=True)
class TaggedColumn:
    """A column that tags the words of another, with an example for the user."""

    name: str
    kind: Literal["spans", "entities", "tags"]
    example: str


def tagged_column(table: Table) -> TaggedColumn | None:
    """Return the column of tags or spans; None where there is none.

    A few rows that do not fit make it no other column: what is wrong with them is said where they are read.
    """
    names = {name.strip().lower(): name for name in reversed(table.columns)}
    words = next((names[hint] for hint in (WORDS.name, *WORDS.hints) if hint in names), None)
    if words is None:
        return None
    hints = dict.fromkeys((TAGS.name, *ENTITIES.hints, *TAGS.hints))
    # Numbers need names that only the user knows: a column that can be read goes before them.
    found = [
        describe(table, words, names[hint])
        for describe in (_described, _numbered)
        for hint in hints
        if hint in names
    ]
    return next((column for column in found if column is not None), None)


def _described(table: Table, words: str, name: str) -> TaggedColumn | None:
    items = _items(table.columns[name])
    if items and all(isinstance(item, Mapping | list | tuple) for item in items):
        return TaggedColumn(name, "spans", "lists of spans")
    tags = [item for item in items if isinstance(item, str)]
    if not tags or len(tags) < len(items) or not _one_for_each_word(table, words, name):
        return None
    marked = next((tag for tag in tags if tag != OUTSIDE), tags[0])
    return TaggedColumn(
        name, "entities" if mark_entities(tags) else "tags", f"a tag for each word, such as {marked!r}"
    )


def _numbered(table: Table, words: str, name: str) -> TaggedColumn | None:
    items = _items(table.columns[name])
    if (
        not items
        or not all(type(item) is int for item in items)
        or not _one_for_each_word(table, words, name)
    ):
        return None
    # What the names would tell, the column's name must: ``ner_tags`` are entities, ``pos_tags`` are not.
    plain = name.strip().lower() in set(TAGS.hints) - set(ENTITIES.hints)
    return TaggedColumn(name, "tags" if plain else "entities", "a number for each word")


def _items(values: Sequence[object]) -> list[object]:
    """Return what the lists of a column hold; nothing where it is not mostly lists."""
    looked_at = values[:_LOOKED_AT]
    lists = [cast("Sequence[object]", value) for value in looked_at if isinstance(value, list | tuple)]
    return [item for each in lists for item in each] if _most(len(lists), looked_at) else []


def _one_for_each_word(table: Table, words: str, name: str) -> bool:
    texts, values = table.columns[words][:_LOOKED_AT], table.columns[name][:_LOOKED_AT]
    matching = sum(
        isinstance(text, list | tuple)
        and isinstance(value, list | tuple)
        and len(cast("Sequence[object]", text)) == len(cast("Sequence[object]", value))
        for text, value in zip(texts, values, strict=True)
    )
    return _most(matching, values)


def _most(count: int, rows: Sequence[object]) -> bool:
    return count * 2 > len(rows)
