"""What a held-out split should hold in the same proportion as the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import cast

from graftlm.data.dataset import Split
from graftlm.data.roles import Role
from graftlm.data.row_labels import row_labels


def strata(split: Split, roles: Sequence[Role]) -> list[Hashable]:
    """Return the stratum of each row: its label, the rarest of its labels or tags, or whether there is an answer."""
    columns: list[Sequence[Hashable]] = []
    for role in roles:
        values = split.columns.get(role.name, [])
        if role.kind == "label":
            columns.append(cast("list[Hashable]", values))
        elif role.kind in ("label_set", "tags", "entities"):
            columns.append(_rarest(row_labels(values, role)))
        elif role.kind == "answers":
            columns.append([bool(answers) for answers in values])
    if len(columns) == 1:
        return list(columns[0])
    return list(zip(*columns, strict=True)) or [()] * len(split)


def _rarest(sets: Sequence[tuple[str, ...]]) -> list[str]:
    """Sets hardly repeat; the rarest label of each row is what a split would miss first."""
    counts = Counter(name for names in sets for name in names)
    return [min(names, key=lambda name: (counts[name], name), default="") for names in sets]
