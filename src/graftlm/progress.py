"""What a long piece of work tells whoever watches it. Workflows speak; the command line or nobody listens."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """A listener. Every method may be called at any time; none may raise."""

    def stage(self, name: str) -> None:
        """A new part of the work begins, for instance ``tokenising``."""
        ...

    def say(self, sentence: str) -> None:
        """Something was decided or found out that the user should be able to read."""
        ...

    def warn(self, sentence: str) -> None:
        """Something deserves attention; the work goes on."""
        ...

    def advance(self, done: int, total: int, **figures: Any) -> None:
        """``done`` of ``total`` units of the current stage are ready; ``figures`` are the current values."""
        ...


class Silent:
    """A listener that ignores everything."""

    def stage(self, name: str) -> None:
        """Ignore."""

    def say(self, sentence: str) -> None:
        """Ignore."""

    def warn(self, sentence: str) -> None:
        """Ignore."""

    def advance(self, done: int, total: int, **figures: Any) -> None:
        """Ignore."""
