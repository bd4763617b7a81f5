"""A table as it was read: columns of untouched values, and the place of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows read from one file or object, before any meaning is given to a column.

    Args:
        source: the path as the user wrote it, a hub id, or a description such as ``list of dicts``.
        columns: column name -> values, all of equal length.
        lines: the 1-based line on which each row starts; None where the source has no lines.
        typed: True where values carry types of their own (JSON Lines, Parquet, memory); False where
            everything is text (CSV, TSV).
        names: what each row is called in its source, where it has a name of its own: ``question 12``.
        said: sentences about what the file held beside rows, for instance lines that were skipped.
    """

    source: str
    columns: dict[str, list[object]]
    lines: Sequence[int] | None
    typed: bool
    names: Sequence[str] | None = None
    said: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int) -> str:
        """Return where a row (0-based) came from: ``reviews.csv:12`` or ``list of dicts, row 12``."""
        if self.names:
            return f"{self.source}, {self.names[row]}"
        return f"{self.source}:{self.lines[row]}" if self.lines else f"{self.source}, row {row + 1}"


@dataclass(frozen=True)
class Meaning:
    """What a source is known to mean, such as a benchmark; what the user says goes before it.

    Args:
        name: what the source is called, for instance ``glue:rte``.
        task: the name of the task that it is for.
        columns: role -> column.
        primary_metric: the metric by which it is told first.
    """

    name: str
    task: str
    columns: Mapping[str, str]
    primary_metric: str


@dataclass(frozen=True)
class Tables:
    """What was read for one run, before any role is given to a column.

    Args:
        splits: ``{"all": table}`` for a single file or object, else train and what came with it.
        origin: where the rows came from, for the run record and the model card.
        decisions: sentences saying what was found, left aside or renamed, and why.
        meaning: what the source is known to mean; None where columns and task are to be inferred.
    """

    splits: dict[str, Table]
    origin: str
    decisions: list[str] = field(default_factory=list[str])
    meaning: Meaning | None = None

    @property
    def known_columns(self) -> Mapping[str, str]:
        """Role -> column, as far as the source says so itself."""
        return self.meaning.columns if self.meaning else {}
