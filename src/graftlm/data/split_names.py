"""What people call their splits, and what we call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

_COLUMN_NAMES = ("split", "partition", "subset", "set", "fold")

KNOWN_SPLIT_NAMES = ", ".join(_NAMES)


def split_of(name: str) -> str | None:
    """Return train, validation or test for a name people use for it, in any case; None for any other name."""
    return _NAMES.get(name.strip().lower())


def names_splits(values: Sequence[object]) -> bool:
    """Whether a column holds names of splits, and nothing else."""
    return all(isinstance(value, str) for value in values) and None not in _splits_of(values)


def find_split_column(columns: Mapping[str, Sequence[object]]) -> str | None:
    """Return the column that is called as splits are and holds their names only: train, and another one."""
    for name, values in columns.items():
        if name.strip().lower() in _COLUMN_NAMES and names_splits(values):
            found = _splits_of(values)
            if "train" in found and len(found) > 1:
                return name
    return None


def _splits_of(values: Sequence[object]) -> set[str | None]:
    return {split_of(str(value)) for value in set(values)}
