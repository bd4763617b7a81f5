"""Data sets and benchmarks from a small hub on loopback, in a process of its own: only HF_ENDPOINT says where it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from tests.hub_server import Hub, Repository

pytestmark = pytest.mark.sockets

# Each address in turn: what came of it, as JSON.
READ = """
import json, sys
from graftlm.errors import GraftError
from graftlm.opening import open_rows
from graftlm.workflows.check import check
for words in json.load(sys.stdin):
    try:
        recipe, tables = open_rows(None, [("data.path", words[0]), *words[1:]], outline=True)
        result = check(recipe, tables).dataset
    except GraftError as error:
        print(json.dumps({"what": error.what, "fix": error.fix, "code": error.exit_code}))
        continue
    train = result.splits["train"]
    print(json.dumps({
        "rows": {name: len(split) for name, split in result.splits.items()}, "origin": result.origin,
        "said": result.decisions, "task": recipe.task.name, "metric": recipe.task.primary_metric,
        "columns": result.columns, "first": train.row_ids[0],
        "labels": sorted({str(value) for value in train.columns.get("label", [])}),
    }))
"""


def read(place: Path, *addresses: str | list[str]) -> list[dict[str, Any]]:
    words = [[address] if isinstance(address, str) else address for address in addresses]
    child = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(words), capture_output=True, text=True, cwd=place,
        env=dict(os.environ),
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def csv(count: int, text: str = "text") -> bytes:
    return ("text,label\n" + "".join(f"{text} {i},{'ab'[i % 2]}\n" for i in range(count))).encode()


def parquet(rows: list[dict[str, Any]], features: datasets.Features) -> bytes:
    content = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(content)
    return content.getvalue()


def configurations(**splits: list[str]) -> bytes:
    lines = ["---", "configs:"]
    for configuration, names in splits.items():
        lines += [f"- config_name: {configuration}", "  data_files:"]
        lines += [f"  - {{split: {name}, path: '{configuration}/{name}.*'}}" for name in names]
    return "\n".join([*lines, "---", ""]).encode()


@pytest.fixture
def reviews(hub: Hub) -> Repository:
    """A data set with an older revision."""
    repository = hub.add("datasets", "org/name", {"train.csv": csv(40), "test.csv": csv(6, "test")})
    repository.branches["v1"] = repository.branches["main"]
    repository.commit({"train.csv": csv(50), "test.csv": csv(6, "test")})
    return repository


def test_revisions_are_read_and_written_down(reviews: Repository, tmp_path: Path) -> None:
    old, new = reviews.branches["v1"], reviews.branches["main"]
    newest, tagged, exact = read(tmp_path, "hub:org/name", "hub:org/name@v1", f"hub:org/name@{old}")
    assert newest["rows"] == {"train": 45, "validation": 5, "test": 6}
    assert newest["origin"] == f"hub:org/name, commit {new}, 56 rows"
    assert (
        f"hub:org/name names no revision: the newest, commit {new}, was read; write @revision to fix it."
        in newest["said"]
    )
    assert tagged["rows"] == exact["rows"] == {"train": 36, "validation": 4, "test": 6}
    assert tagged["origin"] == f"hub:org/name@v1, commit {old}, 46 rows"
    assert exact["origin"] == f"hub:org/name@{old}, 46 rows"
    assert tagged["first"].startswith("hub:org/name@v1 (train), row ")


def test_a_folder_of_that_name_is_not_the_data_set(reviews: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes(csv(10))
    hub, local = read(tmp_path, "hub:org/name", "org/name")
    assert hub["rows"]["train"] == 45
    assert local["origin"] == "org/name"


def test_what_is_not_there(reviews: Repository, tmp_path: Path, hub: Hub) -> None:
    revision, name = read(tmp_path, "hub:org/name@v9", "hub:org/gone")
    assert "v9" in revision["what"] and "org/gone" in name["what"]
    assert (revision["code"], name["code"]) == (2, 2)
    assert revision["fix"] == "check the name and the revision"


def test_configurations_are_named_or_listed(hub: Hub, tmp_path: Path) -> None:
    tree = {
        "README.md": configurations(en=["train"], de=["train"]),
        "en/train.csv": csv(40),
        "de/train.csv": csv(30),
    }
    repository = hub.add("datasets", "org/several", tree)
    one, none, wrong = read(tmp_path, "hub:org/several:de", "hub:org/several", "hub:org/several:dee@main")
    assert one["origin"] == f"hub:org/several:de, commit {repository.branches['main']}, 30 rows"
    assert none["what"] == "this data set has several configurations, and none is named"
    assert none["fix"] == "name one of en, de, for instance hub:org/several:en"
    assert "has no configuration 'dee'. Did you mean 'de'?" in wrong["what"]
    assert wrong["fix"].endswith("for instance hub:org/several:en@main")


PAIR = datasets.Features(
    {
        "sentence1": datasets.Value("string"),
        "sentence2": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["entailment", "not_entailment"]),
        "idx": datasets.Value("int32"),
    }
)


def pairs(count: int, hidden: bool = False) -> bytes:
    rows = [
        {"sentence1": f"{count} {i}", "sentence2": f"two {i}", "label": -1 if hidden else i % 2, "idx": i}
        for i in range(count)
    ]
    return parquet(rows, PAIR)


@pytest.fixture
def glue(hub: Hub) -> Repository:
    number = datasets.Features({**PAIR, "label": datasets.Value("float32")})
    scores = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "label": i / 10, "idx": i} for i in range(50)]
    tree = {
        "README.md": configurations(
            rte=["train", "validation", "test"], stsb=["train", "validation"], wnli=["train"]
        ),
        "rte/train.parquet": pairs(40), "rte/validation.parquet": pairs(8), "rte/test.parquet": pairs(6, hidden=True),
        "stsb/train.parquet": parquet(scores, number), "stsb/validation.parquet": parquet(scores[:5], number),
        "wnli/train.parquet": pairs(4),
    }  # fmt: skip
    return hub.add("datasets", "nyu-mll/glue", tree)


def test_glue_by_name(glue: Repository, tmp_path: Path) -> None:
    commit = glue.branches["main"]
    rte, fixed, stsb, chosen, wnli = read(
        tmp_path, "glue:rte", f"glue:rte@{commit}", "glue:stsb",
        ["glue:rte", "task.primary_metric=f1_macro", "data.columns.text=sentence2"], "glue:wnli",
    )  # fmt: skip
    assert (rte["task"], rte["metric"]) == ("text_classification", "accuracy")
    assert rte["rows"] == {"train": 36, "validation": 4, "test": 8}
    assert rte["labels"] == ["entailment", "not_entailment"]
    assert rte["columns"] == {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
    assert rte["origin"] == f"glue:rte, commit {commit}, 48 rows"
    said = " ".join(rte["said"])
    for sentence in (
        f"glue:rte names no revision: the newest, commit {commit}, was read",
        "The test split of this run is the official validation",
        "Train has 40 rows, the official one 2,490: the scores compare with no published ones.",
        "Official metrics of glue:rte: accuracy.",
        "Validation: 4 rows of 40 set aside",
        "The task is text_classification, because that is the task of glue:rte",
    ):
        assert sentence in said
    assert fixed["origin"] == f"glue:rte@{commit}, 48 rows"
    assert not any("names no revision" in sentence for sentence in fixed["said"])
    assert (stsb["task"], stsb["metric"]) == ("text_regression", "pearson")
    assert stsb["columns"] == {"text": "sentence1", "text_pair": "sentence2", "number": "label"}
    assert (chosen["metric"], chosen["columns"]["text"]) == ("f1_macro", "sentence2")
    assert "text_pair" not in chosen["columns"]
    assert wnli["what"] == "nyu-mll/glue has no split validation at this revision; it has train"


def test_squad_by_name(hub: Hub, tmp_path: Path) -> None:
    text, number = datasets.Value("string"), datasets.Value("int32")
    answers = {"text": datasets.List(text), "answer_start": datasets.List(number)}
    features = datasets.Features({"context": text, "question": text, "answers": answers})

    def rows(count: int) -> bytes:
        answer = {"text": ["hen"], "answer_start": [2]}
        none = {"text": [], "answer_start": []}
        asked = [
            {
                "context": f"a hen {i} of {count}",
                "question": "Which bird?",
                "answers": answer if i % 3 else none,
            }
            for i in range(count)
        ]
        return parquet(asked, features)

    tree = {
        "README.md": configurations(plain_text=["train", "validation"]),
        "plain_text/train.parquet": rows(40),
        "plain_text/validation.parquet": rows(9),
    }
    hub.add("datasets", "rajpurkar/squad_v2", tree)
    (found,) = read(tmp_path, "squad:v2")
    assert (found["task"], found["metric"]) == ("question_answering", "f1")
    assert found["rows"] == {"train": 36, "validation": 4, "test": 9}
    assert found["columns"] == {"question": "question", "context": "context", "answers": "answers"}
    assert "Official metrics of squad:v2: f1, exact_match." in found["said"]
