"""Real files of words and tags, where they are present: counts as their owners publish them."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.data.test_real_data import DATA

from graftlm.data.assembling import assemble
from graftlm.data.dataset import Dataset, Split
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import ENTITIES, TAGS, WORDS, Role
from graftlm.data.tag_schemes import spans_of

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set GRAFTLM_SHARED_DATA"),
]


def read(folder: str, names: tuple[str, str, str], role: Role = ENTITIES, **options: object) -> Dataset:
    train, validation, test = (str(DATA / folder / name) for name in names)
    chosen = DataOptions.model_validate({"validation": validation, "test": test, **options})
    return assemble(read_tables(train, chosen), (WORDS, role), chosen, 0)


def entities(split: Split) -> dict[str, int]:
    return dict(Counter(kind for tags in split.columns["tags"] for kind, _, _ in spans_of(tags)))  # pyright: ignore


def words(split: Split) -> int:
    return sum(len(row) for row in split.columns["tokens"])  # pyright: ignore


def test_conll2003() -> None:
    """Train is IOB2, the original test IOB1: the same entities must come out as are published."""
    dataset = read("conll2003", ("train.txt.gz", "dev.txt", "test_original.txt"), format="conll")
    train, validation, test = (dataset.splits[name] for name in ("train", "validation", "test"))
    assert [(len(split), words(split)) for split in (train, validation, test)] == [
        (14_041, 203_621), (3_250, 51_362), (3_453, 46_435),
    ]  # fmt: skip
    assert entities(train) == {"LOC": 7_140, "PER": 6_600, "ORG": 6_321, "MISC": 3_438}
    assert entities(validation) == {"LOC": 1_837, "PER": 1_842, "ORG": 1_341, "MISC": 922}
    assert entities(test) == {"LOC": 1_668, "PER": 1_617, "ORG": 1_661, "MISC": 702}
    assert any("train.txt.gz: 946 -DOCSTART- lines skipped." in each for each in dataset.decisions)
    assert any("test_original.txt (column 'tags') are IOB1" in each for each in dataset.decisions)
    assert not any("against the scheme" in each for each in dataset.decisions)
    assert train.row_ids[0].endswith("train.txt.gz:3")


def test_wnut17() -> None:
    names = ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")
    dataset = read("wnut17", names, format="conll")
    assert {name: (len(split), words(split)) for name, split in dataset.splits.items()} == {
        "train": (3_394, 62_730), "validation": (1_009, 15_733), "test": (1_287, 23_394),
    }  # fmt: skip
    assert entities(dataset.splits["test"]) == {
        "person": 429, "group": 165, "location": 150, "creative-work": 142, "product": 127, "corporation": 66,
    }  # fmt: skip


def test_chinese_resumes() -> None:
    """Two organisations of train go on after a blank line; their second half is read as an entity, and said."""
    dataset = read("resume_ner_zh", ("train.char.bmes", "dev.char.bmes", "test.char.bmes"))
    assert {name: (len(split), words(split)) for name, split in dataset.splits.items()} == {
        "train": (3_821, 124_099), "validation": (463, 13_890), "test": (477, 15_100),
    }  # fmt: skip
    assert entities(dataset.splits["test"])["TITLE"] == 772
    assert entities(dataset.splits["train"])["ORG"] == 4_611 + 2
    (sentence,) = [each for each in dataset.decisions if "against the scheme" in each]
    assert "4 tags against the scheme BMES" in sentence
    assert "train.char.bmes:62392 (word 1: 'M-ORG' after 'O')" in sentence


def test_universal_dependencies() -> None:
    names = ("en_ewt-ud-train.conllu.gz", "en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu")
    dataset = read("ud_english_ewt", names, TAGS)
    assert {name: (len(split), words(split)) for name, split in dataset.splits.items()} == {
        "train": (12_544, 204_577), "validation": (2_001, 25_147), "test": (2_077, 25_094),
    }  # fmt: skip
    tags = {tag for row in dataset.splits["train"].columns["tags"] for tag in row}  # pyright: ignore
    assert len(tags) == 17
    assert any("en_ewt-ud-dev.conllu: 359 multiword ranges skipped." in each for each in dataset.decisions)
    feature = read("ud_english_ewt", names, TAGS, columns={"tags": "feats.Number"})
    found = {tag for row in feature.splits["test"].columns["tags"] for tag in row}  # pyright: ignore
    assert {"Sing", "Plur", "_"} <= found
