"""Splits of rows by role: the data as a task sees it, with fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Args:
        name: train, validation or test (or a name of the user's for prediction).
        columns: role (``text``, ``label`` ...) -> values, all of equal length.
        row_ids: the place of each row, ``file:line``; what logs and records show instead of text.
    """

    name: str
    columns: dict[str, list[object]]
    row_ids: list[str]

    def __len__(self) -> int:
        return len(self.row_ids)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self):,} rows of {', '.join(self.columns)})"

    def take(self, rows: Sequence[int], name: str | None = None) -> Split:
        """Return the given rows, in the given order."""
        columns = {role: [values[row] for row in rows] for role, values in self.columns.items()}
        return Split(name or self.name, columns, [self.row_ids[row] for row in rows])

    def row_fingerprints(self, *roles: str) -> list[bytes]:
        """Return 16 bytes for each row, a hash of the values of ``roles`` (all roles by default)."""
        chosen = [self.columns[role] for role in (roles or tuple(sorted(self.columns)))]
        return [
            hashlib.blake2b(
                json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"),
                digest_size=16,
            ).digest()
            for row in zip(*chosen, strict=True)
        ]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all rows in order: equal for equal content, wherever it came from."""
        return hashlib.blake2b(b"".join(self.row_fingerprints()), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """All splits of one run and what was decided about them.

    Args:
        splits: name -> rows; ``train`` is always there when training.
        origin: where the rows came from, for the run record and the model card.
        decisions: sentences saying what was inferred or carved, and why.
        columns: role -> the column that fills it.
    """

    splits: dict[str, Split]
    origin: str
    decisions: list[str] = field(default_factory=list[str])
    columns: dict[str, str] = field(default_factory=dict[str, str])

    def fingerprints(self) -> dict[str, str]:
        """Return split name -> fingerprint."""
        return {name: split.fingerprint for name, split in self.splits.items()}
