"""Numbers to predict: not all the same, and near enough to each other that arithmetic tells them apart."""

from __future__ import annotations

import math
from typing import cast

from graftlm.checking.finding import Finding
from graftlm.data.dataset import Dataset

LEAST_DEVIATION = 1e-100
"""Of the numbers of train: squares of smaller ones underflow."""
FARTHEST = 1e15
"""Standard deviations from the mean of train: beyond, the digits of a number do not hold both."""


def check_numbers(dataset: Dataset, role: str) -> list[Finding]:
    """Check one number column: train must hold different numbers, and no number may lie out of reach of them."""
    train = dataset.splits.get("train")
    if train is None:
        return []
    values = cast("list[float]", train.columns[role])
    other = f"name another column (data.columns.{role}=...)"
    if len(set(values)) <= 1:
        message = f"train holds only one {role}, {values[0]:g}; there is nothing to learn"
        return [Finding("error", "constant_number", message, len(train), train.row_ids[:1], other)]
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if deviation < LEAST_DEVIATION:
        message = (
            f"the {role}s of train have a standard deviation of {deviation:g}; below {LEAST_DEVIATION:g} their squared "
            "errors are 0"
        )
        fix = f"give the column in a smaller unit, or {other}"
        return [Finding("error", "number_too_even", message, len(train), train.row_ids[:1], fix)]
    findings: list[Finding] = []
    for name, split in dataset.splits.items():
        rows = [
            row
            for row, value in enumerate(cast("list[float]", split.columns[role]))
            if abs(value - mean) / deviation > FARTHEST
        ]
        if rows:
            message = (
                f"{len(rows)} of {len(split)} {role}s of {name} lie more than {FARTHEST:g} standard deviations from "
                "the mean of train, too far to be computed with"
            )
            places = [split.row_ids[row] for row in rows]
            findings.append(
                Finding(
                    "error", "number_out_of_reach", message, len(rows), places, "correct or remove these rows"
                )
            )
    return findings
