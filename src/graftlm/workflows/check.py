"""``graft check``: what should be known about the rows before a model is trained on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graftlm.checking.finding import Finding
from graftlm.checking.findings import examine_rows
from graftlm.data.dataset import Dataset
from graftlm.data.places import counted
from graftlm.recipe import Recipe


@dataclass(frozen=True)
class CheckResult:
    """The data as it would be trained on, and every finding."""

    dataset: Dataset
    findings: list[Finding]

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {len(split):,}" for name, split in self.dataset.splits.items())
        kinds = Counter(finding.severity for finding in self.findings)
        found = ", ".join(counted(count, kind) for kind, count in kinds.items())
        return f"CheckResult(rows: {rows}; findings: {found or 'none'})"

    @property
    def clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "note" for finding in self.findings)


def check(recipe: Recipe, data: object = None) -> CheckResult:
    """Read, split and examine the rows; loads no model.

    Raises:
        DataError: when the rows cannot even be read as a table of texts and labels.
    """
    return CheckResult(*examine_rows(recipe, data))
