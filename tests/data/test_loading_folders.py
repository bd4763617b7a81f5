from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from graftlm.errors import GraftError


def rows(name: str, count: int = 40) -> str:
    return "text,label\n" + "".join(f"{name} number {i},{'ab'[i % 2]}\n" for i in range(count))


@pytest.mark.parametrize("train", ["train.csv", "training.csv.gz", "TRAIN.csv"])
@pytest.mark.parametrize("dev", ["validation.csv", "valid.jsonl", "dev.tsv", "val.csv.gz"])
def test_folder_of_splits(train: str, dev: str, in_folder: Path, prepare):
    folder = Path("data")
    folder.mkdir()
    (folder / train).write_bytes(gzip.compress(rows("t").encode()) if ".gz" in train else rows("t").encode())
    text = rows("v", 6)
    if dev.endswith("tsv"):
        text = text.replace(",", "\t")
    if dev.endswith("jsonl"):
        text = "".join(
            json.dumps(dict(zip(["text", "label"], line.split(","), strict=True))) + "\n"
            for line in text.split("\n")[1:-1]
        )
    (folder / dev).write_bytes(gzip.compress(text.encode()) if ".gz" in dev else text.encode())
    (folder / "test.csv").write_text(rows("s", 8))
    (folder / "README.md").write_text("about")
    dataset = prepare("data")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 40,
        "validation": 6,
        "test": 8,
    }
    assert dataset.origin == "data"
    assert dataset.splits["train"].row_ids[0] == f"data/{train}:2"
    assert dataset.splits["validation"].columns["text"][0] == "v number 0"
    assert "Files of data that are no split were left aside: README.md." in dataset.decisions


def test_two_files_for_one_split(in_folder: Path, prepare):
    for name in ("train.csv", "dev.csv", "valid.csv"):
        Path(name).write_text(rows(name))
    with pytest.raises(GraftError, match=r"both dev\.csv and valid\.csv would be the validation split"):
        prepare(".")


def test_no_train_file(in_folder: Path, prepare):
    Path("trian.csv").write_text(rows("t"))
    with pytest.raises(GraftError, match=r"the folder has no train file; it holds trian\.csv\n"):
        prepare(".")
    Path("empty").mkdir()
    with pytest.raises(GraftError, match=r"empty: the folder has no train file; it holds nothing"):
        prepare("empty")


def test_separate_files(in_folder: Path, prepare):
    Path("a.csv").write_text(rows("t"))
    Path("b.csv").write_text(rows("v", 6))
    Path("c.csv").write_text(rows("s", 8))
    dataset = prepare("a.csv", validation="b.csv", test="c.csv")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 40,
        "validation": 6,
        "test": 8,
    }
    dataset = prepare("a.csv", validation="b.csv")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 32,
        "validation": 6,
        "test": 8,
    }
    carved = next(decision for decision in dataset.decisions if decision.startswith("Test: 8 rows of 40"))
    assert "validation split selects checkpoints" in carved
    dataset = prepare("a.csv", test="c.csv")
    assert len(dataset.splits["validation"]) == 4
    assert dataset.splits["test"].row_ids[0] == "c.csv:2"


def test_a_column_missing_in_one_split(in_folder: Path, prepare):
    Path("train.csv").write_text(rows("t"))
    Path("test.csv").write_text(rows("s").replace("label", "Label", 1))
    with pytest.raises(
        GraftError, match=r"(?s)test\.csv: has no column 'label'.*'Label'.*Did you mean 'Label'"
    ):
        prepare(".")


def test_unseen_label_in_test(in_folder: Path, prepare):
    Path("train.csv").write_text(rows("t"))
    Path("test.csv").write_text(rows("s", 6) + "odd one,A\nodd two,zzz\n")
    with pytest.raises(GraftError) as caught:
        prepare(".")
    message = str(caught.value)
    assert (
        "test: 2 rows with 2 labels that train never has: 'A' (1), near 'a', 'zzz' (1); known: 'a', 'b'"
        in message
    )
    assert "First: ./test.csv:8, ./test.csv:9." in message


def test_split_column(in_folder: Path, prepare):
    names = ["train"] * 30 + ["dev"] * 5 + ["Test"] * 5
    text = "text,label,part\n" + "".join(f"t {i},{'ab'[i % 2]},{name}\n" for i, name in enumerate(names))
    Path("a.csv").write_text(text)
    dataset = prepare("a.csv", split_column="part")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 30,
        "validation": 5,
        "test": 5,
    }
    assert dataset.splits["test"].row_ids == [f"a.csv:{line}" for line in range(37, 42)]
    assert "Splits are those of column 'part': train 30, validation 5, test 5 rows." in dataset.decisions
    Path("b.csv").write_text(text.replace(",dev", ",holdout"))
    with pytest.raises(GraftError, match=r"holds 'holdout' in 5 rows; expected train,.*first: b\.csv:32"):
        prepare("b.csv", split_column="part")
    with pytest.raises(
        GraftError, match=r"data\.split_column: a\.csv has no column 'prt'\. Did you mean 'part'"
    ):
        prepare("a.csv", split_column="prt")
    Path("c.csv").write_text(text.replace(",train", ",test"))
    with pytest.raises(GraftError, match="never says train"):
        prepare("c.csv", split_column="part")
    with pytest.raises(GraftError, match="already come in splits"):
        prepare("a.csv", split_column="part", test="a.csv")
