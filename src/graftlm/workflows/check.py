"""``graft check``: what should be known about the rows before a model is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graftlm.checking.finding import Finding
from graftlm.checking.findings import check_dataset
from graftlm.data.assembling import assemble
from graftlm.data.dataset import Dataset
from graftlm.data.loading import read_tables
from graftlm.recipe import Recipe


@dataclass(frozen=True)
class CheckResult:
    """The data as it would be trained on, and every finding."""

    dataset: Dataset
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "note" for finding in self.findings)


def check(recipe: Recipe, data: object = None) -> CheckResult:
    """Read, split and examine the rows; loads no model.

    Raises:
        DataError: when the rows cannot even be read as a table of texts and labels.
    """
    task: Any = recipe.task
    dataset = assemble(read_tables(data, recipe.data), task.roles, recipe.data, recipe.seed)
    return CheckResult(dataset, check_dataset(dataset, task.roles))
