"""Whether a model answers every row alike, though the rows are not."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

Given = TypeVar("Given", bound=Hashable)


def only_answer(given: Iterable[Given], wanted: Iterable[Hashable]) -> tuple[Given, ...]:
    """Return the one answer that is ever given where several are wanted; nothing otherwise."""
    answers = set(given)
    return tuple(answers) if len(answers) == 1 and len(set(wanted)) > 1 else ()
