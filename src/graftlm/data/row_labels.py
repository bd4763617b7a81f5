"""The names that a row has, whatever its kind of label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from graftlm.data.roles import Role
from graftlm.data.tag_schemes import entity_types


def row_labels(values: Sequence[object], role: Role) -> list[tuple[str, ...]]:
    """Return the distinct names of each row: a label, a set of labels, the tags of words, the types of entities.

    Args:
        values: a column of a `Split`.
        role: its role; one that holds numbers or texts has no names.
    """
    if role.kind == "label":
        return [(str(value),) for value in values]
    if role.kind not in ("label_set", "tags", "entities"):
        return [()] * len(values)
    rows = cast("Sequence[Sequence[str]]", values)
    if role.kind == "entities":
        return [entity_types(row) for row in rows]
    return [tuple(sorted(set(row))) for row in rows]
