"""What people call their splits, and what we call them."""

from __future__ import annotations

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

KNOWN_SPLIT_NAMES = ", ".join(_NAMES)


def split_of(name: str) -> str | None:
    """Return train, validation or test for a name people use for it, in any case; None for any other name."""
    return _NAMES.get(name.strip().lower())
