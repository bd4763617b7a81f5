from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest

from graftlm.checking.findings import check_dataset, require_clean
from graftlm.data.assembling import assemble
from graftlm.data.dataset import Dataset
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import LABEL, TEXT, Role

ROLES = (TEXT, LABEL)


@pytest.fixture
def roles() -> tuple[Role, ...]:
    return ROLES


@pytest.fixture
def fresh() -> random.Random:
    """Another seed in every run; printed, so that a failure can be repeated."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths, so that messages can be compared whole."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def prepare(in_folder: Path):
    """Read, assemble, check: what happens to a file before a training."""

    def prepare(data: object, seed: int = 0, **options: object) -> Dataset:
        chosen = DataOptions.model_validate(options)
        dataset = assemble(read_tables(data, chosen), ROLES, chosen, seed)
        require_clean(check_dataset(dataset, ROLES))
        return dataset

    return prepare
