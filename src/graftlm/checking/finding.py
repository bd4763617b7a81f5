"""What a check found: how bad it is, how many rows, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from graftlm.data.places import first_places

PLACES = 10
"""How many places a finding keeps; `Finding.count` says how many there are."""


@dataclass(frozen=True)
class Finding:
    """One thing that should be known before training.

    Args:
        severity: ``error`` stops a training, ``warning`` should be read, ``note`` is a fact.
        kind: a stable name in snake case, for scripts and tests.
        message: a sentence with split, counts and expected values; holds no text of the user.
        count: how many rows (or labels, or texts) it concerns.
        places: the first few of them.
        fix: what to do; empty for notes.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    message: str
    count: int = 0
    places: list[str] = field(default_factory=list[str])
    fix: str = ""

    def __str__(self) -> str:
        where = f" First: {first_places(self.places, self.count, PLACES)}." if self.places else ""
        remedy = f" What to do: {self.fix}." if self.fix else ""
        return f"{self.message}.{where}{remedy}"
