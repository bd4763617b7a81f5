"""Real files, where they are present: counts as their owners publish them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from graftlm.checking.findings import check_dataset
from graftlm.errors import DataError

DATA = Path(os.environ.get("GRAFTLM_SHARED_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set GRAFTLM_SHARED_DATA"),
]


def test_sst2(prepare, roles):
    dataset = prepare(DATA / "glue_sst2")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 67349,
        "validation": 872,
        "test": 1821,
    }
    assert Counter(dataset.splits["train"].columns["label"]) == {"1": 37569, "0": 29780}
    found = {finding.kind: finding for finding in check_dataset(dataset, roles)}
    assert found["same_text_in_two_splits"].count >= 1


def test_banking77(prepare):
    dataset = prepare(DATA / "banking77")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 9003,
        "validation": 1000,
        "test": 3080,
    }
    assert all(len(set(split.columns["label"])) == 77 for split in dataset.splits.values())


def test_chinese_hotel_reviews(prepare):
    path = DATA / "chnsenticorp_htl" / "ChnSentiCorp_htl_all.csv.gz"
    with pytest.raises(
        DataError, match=r"1 row with an empty text\. First: .*:6376\. .*data\.drop_empty_text=true"
    ):
        prepare(path)
    dataset = prepare(path, drop_empty_text=True)
    counts = Counter(label for split in dataset.splits.values() for label in split.columns["label"])
    assert counts == {"1": 5322, "0": 2443}
    assert any(decision.startswith("Train: 1 row without text left out: ") for decision in dataset.decisions)


def test_a_file_without_header_is_refused(prepare):
    with pytest.raises(DataError, match=r"train\.tsv:1: the first line looks like a row"):
        prepare(DATA / "cr")
