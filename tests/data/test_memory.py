"""In memory: the same rows, checks and fingerprints as from a file; nothing heavy is imported."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from graftlm.data.dataset import Dataset
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.errors import GraftError

ROWS = [{"text": f"text number {i}", "label": ["no", "yes"][i % 2]} for i in range(40)]


def all_kinds() -> dict[str, object]:
    numbers = [{"text": row["text"], "label": ["no", "yes"].index(row["label"])} for row in ROWS]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    return {
        "list": ROWS,
        "tuple": tuple(ROWS),
        "frame": pd.DataFrame(ROWS),
        "frame of categories": pd.DataFrame(ROWS).astype({"label": "category"}),
        "frame with odd index": pd.DataFrame(ROWS, index=range(100, 140)),
        "datasets": datasets.Dataset.from_list(ROWS),
        "datasets with class names": datasets.Dataset.from_list(numbers, features=features),
        "datasets in numpy format": datasets.Dataset.from_list(ROWS).with_format("numpy"),
        "numpy strings": [{key: np.str_(value) for key, value in row.items()} for row in ROWS],
    }


@pytest.mark.parametrize("kind", all_kinds())
def test_same_rows_and_splits_as_from_a_file(kind: str, in_folder: Path, prepare):
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    from_file: Dataset = prepare("a.jsonl")
    from_memory: Dataset = prepare(all_kinds()[kind])
    assert from_memory.fingerprints() == from_file.fingerprints()
    assert from_memory.splits["train"].columns == from_file.splits["train"].columns
    assert all(type(value) is str for value in from_memory.splits["train"].columns["label"])
    assert ", row " in from_memory.splits["test"].row_ids[0]


def test_splits_by_name(prepare):
    data = {"Train": ROWS, "dev": pd.DataFrame(ROWS[:5]), "unsupervised": ROWS}
    dataset: Dataset = prepare(data, test_share=0)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 40, "validation": 5}
    assert "Left aside, no split of a known name: 'unsupervised'." in dataset.decisions
    assert dataset.splits["validation"].row_ids[0] == "DataFrame (dev), row 1"
    hub = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:7])}
    )
    assert {name: len(split) for name, split in prepare(hub).splits.items()} == {
        "train": 36,
        "validation": 4,
        "test": 7,
    }


def with_value(column: str, value: object) -> list[dict[str, object]]:
    return [*ROWS[:3], {**ROWS[3], column: value}, *ROWS[4:]]


BAD: dict[str, tuple[object, list[str]]] = {
    "no kind": (7, ["builtins.int is not understood", "pandas DataFrame"]),
    "dict of columns": ({"text": ["a"], "label": ["b"]}, ["keys are 'text', 'label'", "list of dicts"]),
    "two names": ({"train": ROWS, "dev": ROWS, "valid": ROWS}, ["both 'dev' and 'valid'"]),
    "empty list": ([], ["list of dicts: has no rows"]),
    "empty frame": (pd.DataFrame({"text": [], "label": []}), ["DataFrame: has no rows"]),
    "no dict": ([*ROWS, "text"], ["list of dicts, row 41: is 'str', expected a dict"]),
    "other keys": ([*ROWS, {"text": "a"}], ["list of dicts, row 41 (lacks 'label')", "None"]),
    "key no string": ([{1: "a"}], ["the key 1 is not a string"]),
    "missing label": (pd.DataFrame(with_value("label", None)), ["empty in 1 row", "DataFrame, row 4"]),
    "missing text": (pd.DataFrame(with_value("text", None)), ["1 row holds nothing (missing)", "row 4"]),
    "nan text": (with_value("text", math.nan), ["1 row holds nothing (missing)", "row 4"]),
    "mixed labels": (
        with_value("label", 1),
        ["39 rows with str (first list of dicts, row 1)", "1 row with int"],
    ),
    "numpy mixed": (with_value("label", np.int64(1)), ["1 row with int (first list of dicts, row 4)"]),
    "float labels": (
        pd.DataFrame({"text": ["a b", "c d"], "label": [0.0, 1.0]}),
        ["fractional", "astype(int)"],
    ),
    "gaps in numbers": (pd.DataFrame({"text": ["a", "b"], "label": [1, None]}), ["empty in 1 row"]),
    "bytes": (with_value("text", b"bytes"), ["1 row holds bytes", "row 4"]),
    "lone surrogate": (with_value("text", "cut \ud83d"), ["half of a surrogate pair", "row 4"]),
    "surrogate label": (with_value("label", "\ud83d"), ["half of a surrogate pair"]),
    "columns twice": (
        pd.DataFrame([[1, 2]], columns=["text", "text"]),
        ["'text' is used for columns 1 and 2"],
    ),
    "columns are numbers": (pd.DataFrame([["a", "b"]]), ["the column name 0 is not a name"]),
    "timestamps": (
        pd.DataFrame({"text": ["a", "b"], "label": pd.to_datetime(["2024-01-01", "2024-01-02"])}),
        ["2 rows hold Timestamp"],
    ),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_bad_objects(case: str, prepare):
    data, fragments = BAD[case]
    with pytest.raises(GraftError) as caught:
        prepare(data)
    for fragment in [*fragments, "What to do: "]:
        assert fragment in str(caught.value)


def test_unlabelled_and_impossible_class_numbers(prepare):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    unlabelled = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    with pytest.raises(GraftError, match=r"empty in 1 row; first: datasets\.Dataset, row 2"):
        prepare(unlabelled)
    # Arrow data may hold what the feature forbids.
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 5]}).data
    broken = datasets.Dataset(table, info=datasets.DatasetInfo(features=features))
    with pytest.raises(GraftError, match="outside 0 to 1, the first is 5 in row 2"):
        prepare(broken)


def test_missing_values_become_none_and_numpy_values_plain():
    rows = [{"a": np.float64("nan"), "b": np.int64(3), "c": pd.NA, "d": pd.NaT, "e": np.bool_(True)}]
    table = read_tables(rows, DataOptions()).splits["all"]
    assert table.columns == {"a": [None], "b": [3], "c": [None], "d": [None], "e": [True]}
    assert type(table.columns["b"][0]) is int
    assert type(table.columns["e"][0]) is bool


def test_no_heavy_import(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    program = f"""
import socket, sys
def refuse(*_, **__): raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from graftlm.checking.findings import check_dataset, require_clean
from graftlm.data.assembling import assemble
from graftlm.data.roles import Role
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
roles = (Role("text", "text"), Role("label", "label"))
for data in ({str(tmp_path / "a.csv")!r}, [dict(text=str(i) + " x", label="ab"[i % 2]) for i in range(40)]):
    require_clean(check_dataset(assemble(read_tables(data, DataOptions()), roles, DataOptions(), 0), roles))
heavy = sorted({{"torch", "transformers", "pandas", "datasets", "pyarrow", "numpy"}} & set(sys.modules))
print(heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_local_formats_open_no_socket(in_folder: Path, prepare, monkeypatch: pytest.MonkeyPatch):
    import socket

    def refuse(*_: object, **__: object):
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    pd.DataFrame(ROWS).to_parquet("a.parquet")
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert prepare("a.parquet").fingerprints() == prepare("a.jsonl").fingerprints()


def test_hub_goes_through_datasets_with_the_revision(prepare, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, object, object]] = []

    def load(name: str, configuration: object, revision: object, streaming: bool) -> object:
        assert not streaming
        asked.append((name, configuration, revision))
        if name == "hf://datasets/org/gone":
            raise datasets.exceptions.DatasetNotFoundError("no such data set")
        if name == "hf://datasets/org/down":
            raise ConnectionError("no route")
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    dataset = prepare("hub:org/name@abc")
    assert asked == [("hf://datasets/org/name", None, "abc")]
    assert dataset.origin == "hub:org/name@abc, 40 rows"
    assert dataset.splits["train"].row_ids[0].startswith("hub:org/name@abc (train), row ")
    assert any("names no revision" in decision for decision in prepare("hub:org/name").decisions)
    with pytest.raises(GraftError, match="hub:org/gone: cannot be read: no such data set") as gone:
        prepare("hub:org/gone")
    with pytest.raises(GraftError, match="ConnectionError: no route") as down:
        prepare("hub:org/down")
    assert (gone.value.exit_code, down.value.exit_code) == (2, 3)


@pytest.mark.parametrize(
    "address", ["hub:", "hub:/", "hub:@abc", "hub:org/name:", "hub:org/name:@abc", "hub:a:b:c"]
)
def test_hub_addresses_that_name_nothing(prepare, address: str):
    with pytest.raises(GraftError, match="no data set is named"):
        prepare(address)
