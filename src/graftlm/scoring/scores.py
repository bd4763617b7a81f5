"""Numbers with intervals, and what is needed to read them again later."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """One number and its bootstrap interval, in the units of its metric: mostly 0 to 1.

    BLEU, chrF and ROUGE are so as well; only tables, reports and cards show them from 0 to 100.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Everything that was measured on one split.

    Args:
        values: name of the value (``accuracy``, ``f1_macro``, ``recall[refund]``) -> score.
        primary: the name in ``values`` that stands for the split.
        greater_is_better: direction of the primary value.
        rows: number of rows that were scored.
        confidence: coverage that the intervals aim at, 0.95 by default.
        resamples: bootstrap resamples behind each interval.
        labels: label names in the order of ``confusion``.
        references: items of each label in the references [K].
        confusion: counts [K, K]; a row per reference label, a column per predicted label; empty where a row may
            have several labels.
        rows_in_training: rows whose text was in training, for which the score is optimistic; None where nobody
            looked (the held-out rows of a run) or could look (a model folder without its run).
        split: of a source with splits, the one that was scored by `graft evaluate`; None elsewhere.
        signatures: name of a value -> how exactly its scorer measured, where it has settings of its own.
        undefined: names of the values that are 0 because these rows do not define them; not stored.
    """

    values: dict[str, Score]
    primary: str
    greater_is_better: bool
    rows: int
    confidence: float
    resamples: int
    labels: tuple[str, ...]
    references: list[int]
    confusion: list[list[int]]
    rows_in_training: int | None = None
    split: str | None = None
    signatures: dict[str, str] = field(default_factory=dict[str, str])
    undefined: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def headline(self) -> Score:
        """The primary score."""
        return self.values[self.primary]

    def dump(self) -> dict[str, Any]:
        """Return plain JSON values; `load` gives an equal object back. What nobody looked for is left out."""
        values = {**asdict(self), "labels": list(self.labels)}
        del values["undefined"]
        return {key: value for key, value in values.items() if value is not None and value != {}}

    @classmethod
    def load(cls, content: dict[str, Any]) -> Scores:
        """Return the object that `dump` wrote."""
        values = {name: Score(**value) for name, value in content["values"].items()}
        # Runs of version 0.1.0 had one label a row, so the confusion matrix tells.
        references = content.get("references", [sum(row) for row in content["confusion"]])
        changed: dict[str, Any] = {
            "values": values,
            "labels": tuple(content["labels"]),
            "references": references,
        }
        return cls(**{**content, **changed})
