"""Whether a table holds words with tags, by the names and the contents of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from graftlm.data.roles import ENTITIES, TAGS, WORDS
from graftlm.data.table import Table
from graftlm.data.tag_schemes import OUTSIDE, divided

_LOOKED_AT = 1000


@dataclass(frozen=True)
class TaggedColumn:
    """A column that tags the words of another, with an example for the user."""

    name: str
    kind: Literal["spans", "entities", "tags"]
    example: str


def tagged_column(table: Table) -> TaggedColumn | None:
    """Return the column of tags or spans; None where there is none."""
    names = {name.strip().lower(): name for name in reversed(table.columns)}
    words = next((names[hint] for hint in (WORDS.name, *WORDS.hints) if hint in names), None)
    if words is None:
        return None
    hints = dict.fromkeys((TAGS.name, *ENTITIES.hints, *TAGS.hints))
    found = [_described(table, words, names[hint]) for hint in hints if hint in names]
    return next((column for column in found if column is not None), None)


def _described(table: Table, words: str, name: str) -> TaggedColumn | None:
    values = table.columns[name][:_LOOKED_AT]
    texts = table.columns[words][:_LOOKED_AT]
    if not all(isinstance(value, list | tuple) for value in values):
        return None
    rows = cast("list[Sequence[object]]", values)
    items = [item for row in rows for item in row]
    if not items:
        return None
    if all(isinstance(item, dict | list | tuple) for item in items):
        return TaggedColumn(name, "spans", "lists of spans")
    matching = all(
        isinstance(text, list | tuple) and len(cast("Sequence[object]", text)) == len(row)
        for text, row in zip(texts, rows, strict=True)
    )
    if not matching or not all(isinstance(item, str) for item in items):
        return None
    tags = cast("list[str]", items)
    marked = next((tag for tag in tags if tag != OUTSIDE), tags[0])
    entities = marked != OUTSIDE and all(divided(tag) is not None for tag in set(tags))
    return TaggedColumn(name, "entities" if entities else "tags", f"a tag for each word, such as {marked!r}")
