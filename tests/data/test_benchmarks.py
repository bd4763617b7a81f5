"""Benchmarks from folders that hold the official files in their official layouts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from graftlm.catalog import Catalog
from graftlm.data.assembling import assemble
from graftlm.data.benchmarks import BENCHMARKS
from graftlm.data.dataset import Dataset
from graftlm.errors import DataError, GraftError, MissingResource
from graftlm.opening import open_rows
from graftlm.workflows.new import new_recipe

# Headers as GLUE hands the files out; every row has as many fields.
HEADERS = {
    "SST-2": "sentence label",
    "MRPC": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "QQP": "id qid1 qid2 question1 question2 is_duplicate",
    "STS-B": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "MNLI": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2 label1 gold_label",
    "QNLI": "index question sentence label",
    "RTE": "index sentence1 sentence2 label",
    "WNLI": "index sentence1 sentence2 label",
}
NAMED = {"MNLI", "QNLI", "RTE"}  # their files hold names, those of the others numbers


def lines(name: str, count: int) -> str:
    """Rows of a tab-separated file, each field called by its column and row."""
    benchmark = BENCHMARKS[name]
    if benchmark.folder == "CoLA":
        return "".join(f"gj04\t{i % 2}\t*\tsentence {i}\n" for i in range(count))
    text = HEADERS[benchmark.folder]
    header = text.split("|" if "|" in text else " ")
    if name == "glue:mnli_mismatched":
        header = [*header[:-1], "label2", "gold_label"]

    def field(column: str, i: int) -> str:
        if column == "score":
            return f"{i % 50 / 10:.3f}"
        if column in ("label", "gold_label", "Quality", "is_duplicate"):
            number = i % len(benchmark.labels)
            return benchmark.labels[number] if benchmark.folder in NAMED else str(number)
        return f'{column} "{i}'  # a quote is a character of the text

    rows = ["\t".join(field(column, i) for column in header) for i in range(count)]
    return "\n".join(["\t".join(header), *rows]) + "\n"


def opened(address: str, *overrides: str) -> tuple[object, Dataset]:
    recipe, tables = open_rows(None, [("data.path", address), *overrides], outline=True)
    task = recipe.task
    return recipe, assemble(tables, task.roles, recipe.data, recipe.seed)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.startswith("glue:")])
def test_the_files_of_glue(name: str, in_folder: Path) -> None:
    benchmark = BENCHMARKS[name]
    layout = benchmark.layouts[0]
    folder = in_folder / "glue_data" / benchmark.folder
    folder.mkdir(parents=True)
    train = lines(name.replace("_mismatched", ""), 40)
    (folder / f"{layout.train[0]}.gz").write_bytes(gzip.compress(train.encode()))
    (folder / layout.held_out[0]).write_text("\ufeff" + lines(name, 9), newline="")
    recipe, dataset = opened(f"{name}=glue_data")
    _, same = opened(f"{name}=glue_data/{benchmark.folder}")
    assert dataset.fingerprints() == same.fingerprints()
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {
        "train": 36, "validation": 4, "test": 9,
    }  # fmt: skip
    assert recipe.task.name == benchmark.task
    assert recipe.task.primary_metric == benchmark.metrics[0]
    assert dataset.columns == dict(benchmark.columns)
    test = dataset.splits["test"]
    if benchmark.labels:
        assert set(test.columns["label"]) == set(benchmark.labels)
    else:
        assert test.columns["number"][3] == 0.3
    if benchmark.folder != "CoLA":
        column = "question" if benchmark.folder == "QNLI" else next(iter(layout.fields.values()))
        assert test.columns["text"][0] == f'{column} "0'
        assert test.row_ids[0] == f"glue_data/{benchmark.folder}/{layout.held_out[0]}:2"
    said = " ".join(dataset.decisions)
    assert f"Official metrics of {name}: {', '.join(benchmark.metrics)}." in said
    assert f"The test split of this run is the official {layout.held_out[0]}" in said
    assert f"Test has 9 rows, the official one {benchmark.rows[1]:,}" in said


def test_the_original_releases(in_folder: Path) -> None:
    Path("cola").mkdir()
    for file, count in (("in_domain_train", 40), ("in_domain_dev", 5), ("out_of_domain_dev", 4)):
        Path("cola", f"{file}.tsv").write_text(lines("glue:cola", count))
    _, dataset = opened("glue:cola=cola")
    assert dataset.splits["test"].row_ids[4:6] == [
        "cola, in_domain_dev.tsv:5",
        "cola, out_of_domain_dev.tsv:1",
    ]
    Path("mrpc").mkdir()
    for file, count in (("train", 40), ("test", 5)):
        Path("mrpc", f"msr_paraphrase_{file}.txt").write_text("\ufeff" + lines("glue:mrpc", count))
    _, dataset = opened("glue:mrpc=mrpc")
    assert len(dataset.splits["test"]) == 5
    assert any("the files of the original release, so its test rows" in each for each in dataset.decisions)
    assert any("Test has 5 rows, the official one 1,725" in each for each in dataset.decisions)
    Path("stsb").mkdir()
    for file, count in (("train", 40), ("dev", 5)):
        rows = "".join(
            f"g\tf\ty\t{i}\t{i / 10:.3f}\tone {i}\ttwo {i}{chr(9) * (i % 3)}\n" for i in range(count)
        )
        Path("stsb", f"sts-{file}.csv").write_text(rows)
    _, dataset = opened("glue:stsb=stsb")
    assert dataset.splits["test"].columns["number"] == [0.0, 0.1, 0.2, 0.3, 0.4]


def squad(count: int) -> str:
    questions = [
        {"id": str(i), "question": "Which?", "answers": [{"text": f"hen {i}", "answer_start": 2}]}
        for i in range(count)
    ]
    paragraphs = [{"context": f"a hen {i}", "qas": [question]} for i, question in enumerate(questions)]
    return json.dumps({"version": "1.1", "data": [{"title": "Birds", "paragraphs": paragraphs}]})


@pytest.mark.parametrize(("name", "version"), [("squad:v1", "v1.1"), ("squad:v2", "v2.0")])
def test_the_files_of_squad(name: str, version: str, in_folder: Path) -> None:
    Path(f"train-{version}.json").write_text(squad(40))
    Path(f"dev-{version}.json").write_text(squad(6))
    recipe, dataset = opened(f"{name}=.")
    assert recipe.task.name == "question_answering"
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {
        "train": 36, "validation": 4, "test": 6,
    }  # fmt: skip


def test_what_the_user_says_goes_before(in_folder: Path) -> None:
    for file, count in (("train", 40), ("dev", 9)):
        Path(f"{file}.tsv").write_text(lines("glue:qnli", count))
    recipe, dataset = opened("glue:qnli=.", "data.columns.text=sentence", "task.primary_metric=f1_macro")
    assert recipe.task.primary_metric == "f1_macro"
    assert dataset.columns == {"text": "sentence", "label": "label"}
    assert not any("The primary metric" in each for each in dataset.decisions)
    recipe, _ = opened("glue:qnli=.", "task.name=text_classification")
    assert recipe.task.primary_metric == "accuracy"
    recipe, tables = open_rows(None, [("data.path", "glue:qnli=.")])
    text = new_recipe(recipe, tables)
    assert "columns: {text: question, text_pair: sentence, label: label}" in text


def test_a_file_of_the_user_as_test(in_folder: Path) -> None:
    for file, count in (("train", 40), ("dev", 9), ("mine", 7)):
        Path(f"{file}.tsv").write_text(lines("glue:rte", count))
    _, dataset = opened("glue:rte=.", "data.test=mine.tsv")
    assert len(dataset.splits["test"]) == 7
    assert any(each == "test: mine.tsv is read instead of ./dev.tsv." for each in dataset.decisions)


def test_broken_rows_are_left_out_where_official_readers_do_so(in_folder: Path) -> None:
    for name, file in (("glue:qqp", "qqp"), ("glue:rte", "rte")):
        Path(file).mkdir()
        rows = lines(name, 40).split("\n")
        Path(file, "train.tsv").write_text("\n".join([*rows[:5], "a\tbroken", *rows[5:]]))
        Path(file, "dev.tsv").write_text(lines(name, 9))
    _, dataset = opened("glue:qqp=qqp")
    sentence = "1 row with another number of fields than 6 left out, as official readers do: qqp/train.tsv:6."
    assert sentence in dataset.decisions
    with pytest.raises(
        DataError, match=r"rte/train\.tsv: 1 row with another number of fields than 4: rte/train\.tsv:6"
    ):
        opened("glue:rte=rte")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("glue:rtee", r"glue:rtee: no benchmark is called 'glue:rtee'\. Did you mean 'glue:rte'\?"),
        ("glue:", "no benchmark is called 'glue:'"),
        ("squad:v3", r"Did you mean 'squad:v"),
        ("glue:rte@", "no benchmark is called"),
        ("glue:rte=", "no benchmark is called"),
        ("glue:rte=nowhere", r"nowhere: there is no such folder\n.*train\.tsv, dev\.tsv"),
        (
            "glue:rte=.",
            r"does not hold the official files of glue:rte; it holds bad, empty, odd, x\.csv\n.*train\.tsv, dev\.tsv",
        ),
        ("glue:rte=bad", r"bad/train\.tsv:1: the header has no column sentence1 and no column sentence2"),
        (
            "glue:rte=odd",
            r"odd/train\.tsv: 1 row without a label of this benchmark, first at odd/train\.tsv:3; known: entailment",
        ),
        ("glue:rte=empty", r"empty/dev\.tsv: has no rows"),
    ],
)
def test_refusals(in_folder: Path, address: str, message: str) -> None:
    Path("x.csv").write_text("text,label\na,b\n")
    good = lines("glue:rte", 9)
    for folder, train, dev in (
        ("bad", "text\tlabel\na\tb\n", good),
        ("odd", good.replace("1\tnot_entailment", "1\tmaybe").replace('"1\tnot', '"1\tmaybe not', 1), good),
        ("empty", good, good.split("\n")[0]),
    ):
        Path(folder).mkdir()
        Path(folder, "train.tsv").write_text(train)
        Path(folder, "dev.tsv").write_text(dev)
    with pytest.raises(GraftError, match=message):
        opened(address)


def test_every_entry_is_consistent() -> None:
    for name, benchmark in BENCHMARKS.items():
        task = Catalog("tasks").get(benchmark.task)
        assert set(benchmark.columns) <= {role.name for role in task.roles}, name
        assert task(primary_metric=benchmark.metrics[0]), name
        for layout in benchmark.layouts:
            assert not layout.fields or set(layout.fields) == set(benchmark.columns.values()), name


def test_without_a_network_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(address: str, *rest: object) -> None:
        raise MissingResource("the hub gave no data", where=address, fix="give a local file")

    monkeypatch.setattr("graftlm.data.benchmark_reading.fetch", fails)
    with pytest.raises(MissingResource, match=r"^glue:rte@abc: the hub gave no data") as caught:
        open_rows(None, {"data.path": "glue:rte@abc"}, outline=True)
    assert caught.value.fix.endswith("name a folder with the official files: glue:rte=FOLDER")
