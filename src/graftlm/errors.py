"""Every error a user can meet: what happened, where, what to do, and the exit code of the command line.

Exit codes: 0 done, 2 the user's input, 3 the environment (disk, memory, permission, missing package),
4 the training diverged or could not be proved, 5 findings of `graft check`, 130/143 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class GraftError(Exception):
    """A failure with a place and a remedy.

    Args:
        what: what happened, with the offending value and what was expected.
        where: file:line, row id or recipe key; empty where there is no place.
        fix: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        place = f"{where}: " if where else ""
        remedy = f"\n  What to do: {fix}" if fix else ""
        super().__init__(f"{place}{what}{remedy}")


class ConfigurationError(GraftError):
    """A recipe, an override or an argument that cannot be honoured."""


class DataError(GraftError):
    """A data file or in-memory table that cannot be used as it is."""


class ModelError(GraftError):
    """A base model or artefact that cannot be loaded safely."""


class RunError(GraftError):
    """A run directory that cannot be opened, locked or resumed."""


class MissingResource(GraftError):
    """The machine lacks something: a package, disk space, memory, a permission, a network."""

    exit_code = 3


class Diverged(GraftError):
    """The loss or the gradient became non-finite; nothing of that step was saved.

    Args:
        what: step, loss and gradient norm.
        rows: positions in train of the rows of that step, as they are in its pass; empty where it is not about a step.
        step: its number, from 1; None where it is not about a step.
        fix: what the user can do about it.
    """

    exit_code = 4

    def __init__(
        self, what: str, *, rows: Sequence[int] = (), step: int | None = None, fix: str = ""
    ) -> None:
        super().__init__(what, fix=fix)
        self.rows, self.step = list(rows), step


class ProofFailed(GraftError):
    """The saved model does not reproduce the recorded predictions in a fresh process."""

    exit_code = 4


class Interrupted(GraftError):
    """A signal stopped the run at a step boundary, after a valid checkpoint was written.

    Args:
        what: what was saved and where.
        signal_number: 2 (SIGINT) or 15 (SIGTERM); the exit code is 128 + this number.
        fix: the command that continues.
    """

    def __init__(self, what: str, *, signal_number: int, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name closest to ``name``, or an empty string."""
    candidates = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    return f" Did you mean {candidates[match[0]]!r}?" if match else ""


def clip(value: object, width: int = 60) -> str:
    """Return ``repr(value)`` cut to ``width`` characters, control characters escaped."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
