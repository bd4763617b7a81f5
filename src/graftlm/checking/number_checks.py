"""Numbers to predict: not all the same."""

from __future__ import annotations

from typing import cast

from graftlm.checking.finding import Finding
from graftlm.data.dataset import Dataset


def check_numbers(dataset: Dataset, role: str) -> list[Finding]:
    """Check one number column: train must hold different numbers."""
    train = dataset.splits.get("train")
    if train is None:
        return []
    values = cast("list[float]", train.columns[role])
    if len(set(values)) > 1:
        return []
    message = f"train holds only one {role}, {values[0]:g}; there is nothing to learn"
    fix = f"name another column (data.columns.{role}=...)"
    return [Finding("error", "constant_number", message, len(train), train.row_ids[:1], fix)]
