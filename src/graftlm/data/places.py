"""Where rows are, in words: the first few places and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5
"""How many places an error names before it only counts the rest."""


def first_places(places: Sequence[str], count: int | None = None, shown: int = SHOWN) -> str:
    """Return ``a.csv:3, a.csv:9 and 4 more``.

    Args:
        places: at least the first ``shown`` places.
        count: how many there are in all; the length of ``places`` by default.
        shown: how many to name.
    """
    total = len(places) if count is None else count
    named = ", ".join(places[:shown])
    hidden = total - min(len(places), shown)
    return f"{named} and {hidden:,} more" if hidden > 0 else named


def counted(number: int, noun: str) -> str:
    """Return ``1 row`` or ``1,200 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def counted_with(number: int, noun: str, verb: str) -> str:
    """Return ``1 row holds`` or ``2 rows hold``."""
    ending = "" if number != 1 else "es" if verb.endswith("o") else "s"
    return f"{counted(number, noun)} {verb}{ending}"
