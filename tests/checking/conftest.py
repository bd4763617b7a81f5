from __future__ import annotations

import random
import secrets

import pytest

from graftlm.checking.findings import Finding, check_dataset
from graftlm.data.dataset import Dataset, Split
from graftlm.data.roles import Role


@pytest.fixture
def fresh() -> random.Random:
    """Another seed in every run; printed, so that a failure can be repeated."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def check():
    """Check splits given as lists of (text, label); findings by kind."""

    def check(suffix: str = "csv", **splits: list[tuple[str, str]]) -> dict[str, list[Finding]]:
        made = {
            name: Split(
                name,
                {"text": [row[0] for row in rows], "label": [row[1] for row in rows]},
                [f"{name}.{suffix}:{line}" for line in range(2, len(rows) + 2)],
            )
            for name, rows in splits.items()
        }
        roles = (Role("text", "text"), Role("label", "label"))
        findings: dict[str, list[Finding]] = {}
        for finding in check_dataset(Dataset(made, "memory"), roles):
            findings.setdefault(finding.kind, []).append(finding)
        return findings

    return check
