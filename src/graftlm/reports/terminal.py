"""A terminal, a pipe or a file to print on, exactly as it was meant."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """A console that leaves words alone: no markup, no emoji codes (``file:100:`` holds one), no folding."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False, markup=False, soft_wrap=True)

    def on_broken_pipe(self) -> NoReturn:
        """Hand the error on: a reader that left, such as ``head``, is no failure of ours."""
        raise BrokenPipeError
