"""Progress on a terminal: a bar with rate, time left and current figures; plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from graftlm.reports.terminal import Terminal

# Without a terminal a line every so many seconds tells that the work goes on.
_QUIET_SECONDS = 15.0
_WIDE = 110


class Display:
    """A listener (see `graftlm.progress.Progress`) that writes to standard error. Use it as a context."""

    def __init__(self) -> None:
        self.console = Terminal(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._spoke = time.monotonic()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def stage(self, name: str) -> None:
        """Say which part begins."""
        self._close()
        self._stage = name
        self.console.print(f"{name} …", style="bold")

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self.console.print(f"  {sentence}")

    def warn(self, sentence: str) -> None:
        """Print a sentence that deserves attention."""
        self.console.print(f"  warning: {sentence}", style="yellow")

    def advance(self, done: int, total: int, **figures: Any) -> None:
        """Move the bar; figures are loss, epoch, best, tokens_per_second, rows_per_second where they are known."""
        text = _figures(figures)
        if not self.console.is_terminal:
            if time.monotonic() - self._spoke > _QUIET_SECONDS:
                self._spoke = time.monotonic()
                self.console.print(f"  {self._stage}: {done} of {total}  {text}")
            return
        if self._bar is None:
            # What counts is the time left, and the figures: on a usual terminal they leave no room for more.
            wide = self.console.width >= _WIDE
            columns = [
                TextColumn("  {task.description}"), *([BarColumn(bar_width=24)] if wide else []), MofNCompleteColumn(),
                *([TimeElapsedColumn()] if wide else []), TextColumn("left"), TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
            ]  # fmt: skip
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(self._stage, total=total, completed=done, figures=text)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, figures=text)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def _figures(figures: dict[str, Any]) -> str:
    parts: list[str] = []
    if (loss := figures.get("loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (epoch := figures.get("epoch")) is not None:
        parts.append(f"epoch {epoch:.1f}")
    if (best := figures.get("best")) is not None:
        parts.append(f"best {best:.3f}")
    if (rate := figures.get("tokens_per_second")) is not None:
        parts.append(f"{rate:,.0f} tokens/s")
    if (rate := figures.get("rows_per_second")) is not None:
        parts.append(f"{rate:,.0f} rows/s")
    return "  ".join(parts)
