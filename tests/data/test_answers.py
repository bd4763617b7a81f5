"""Questions and answers: SQuAD documents, flat rows, and positions that are wrong."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from graftlm.checking.findings import check_dataset
from graftlm.data.assembling import assemble
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.errors import DataError
from graftlm.tasks.question_answering import QuestionAnswering

CONTEXT = "A red fox. A red hen."
HEN = {"text": "hen", "answer_start": 17}
ROLES = QuestionAnswering.roles


def document(*questions, title="Animals", context=CONTEXT):
    article = {"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}
    return {"version": "v2.0", "data": [article]}


def question(identity="q1", answers=(HEN,), **more):
    return {"id": identity, "question": "which bird?", "answers": list(answers), **more}


def dataset_of(data, **options):
    chosen = DataOptions(validation_share=0.0, test_share=0.0, **options)
    return assemble(read_tables(data, chosen), ROLES, chosen, 0)


def train_of(data, **options):
    return dataset_of(data, **options).splits["train"]


def rows_of(count, **changes):
    return [
        {"question": f"which bird is number {row}?", "context": CONTEXT, "answers": [HEN], **changes}
        for row in range(count)
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_squad_document(in_folder: Path, indent, name):
    plausible = question("q2", [], is_impossible=True, plausible_answers=[HEN])
    content = json.dumps(document(question(is_impossible=False), plausible), indent=indent).encode()
    Path(name).write_bytes(gzip.compress(content) if name.endswith("gz") else b"\xef\xbb\xbf" + content)
    train = train_of(name)
    assert train.row_ids == [f"{name}, question q1", f"{name}, question q2"]
    assert train.columns == {
        "question": ["which bird?"] * 2,
        "context": [CONTEXT] * 2,
        "answers": [(("hen", 17),), ()],
    }
    table = read_tables(name, DataOptions()).splits["all"]
    assert table.columns["title"] == ["Animals", "Animals"]


def test_positions_that_pandas_turned_into_fractions_are_read() -> None:
    """Where some questions have no answer, a column of positions holds 17.0 and NaN."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "question": ["which bird?", "which fish?", "which hen?"],
            "context": [CONTEXT] * 3,
            "answer": ["hen", "", "red hen"],
            "answer_start": [17, None, None],
        }
    )
    assert frame["answer_start"].dtype == float
    assert train_of(frame).columns["answers"] == [(("hen", 17),), (), (("red hen", 13),)]
    frame["answer_start"] = [17.5, None, None]
    with pytest.raises(DataError, match="holds no answers in 1 row"):
        train_of(frame)


def test_questions_without_id_are_numbered_and_may_have_no_answers_yet(in_folder: Path):
    Path("a.json").write_text(json.dumps(document({"question": "which?"}, {"question": "who?"}, title=None)))
    table = read_tables("a.json", DataOptions()).splits["all"]
    assert list(table.columns) == ["question", "context"]
    assert table.place(1) == "a.json, question 2 of paragraph 1 of article 1"


def test_other_json_stays_json_lines(in_folder: Path):
    Path("a.json").write_text('{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n')
    assert read_tables("a.json", DataOptions()).splits["all"].columns["text"] == ["one", "two"]


BROKEN = {
    "cut": (json.dumps(document(question()))[:-30], r"a\.json: is not whole JSON: .*line 1"),
    "no paragraphs": (
        '{"data": [{"title": "x"}]}',
        r"article 1 has no list of paragraphs \(no paragraphs\); expected",
    ),
    "text for questions": (
        '{"data": [{"paragraphs": [{"context": "x", "qas": "y"}]}]}',
        r"paragraph 1 of article 1 has no list of qas \(qas is a string\)",
    ),
    "contradiction": (
        json.dumps(document(question("q1", is_impossible=True), question("q2", [], is_impossible=False))),
        r"2 questions with an answer and is_impossible true, .* first: a\.json, question q1, a\.json, question q2",
    ),
    "empty": ('{"data": []}', "holds no question"),
    "twice": ('{"data": [{"title": "a", "title": "b"}]}', "the key 'title' occurs twice"),
    "surrogate": (json.dumps(document(question())).replace("which", "\\ud83d"), "half of a surrogate pair"),
    "deep": ('{"data": [{"x": ' + "[" * 200_000, "nested too deeply"),
    "no question": (
        json.dumps(document({"id": "q1", "answers": [HEN]})),
        "question column .* must hold strings",
    ),
}


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.replace(" ", "-"))
def test_broken_documents_are_refused(in_folder: Path, case):
    content, message = BROKEN[case]
    Path("a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        train_of("a.json")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([HEN], (("hen", 17),)),
        ({"text": ["hen", "hen"], "answer_start": [17, 17]}, (("hen", 17),)),
        ({"text": ["A red hen", "hen"], "answer_start": [11, 17]}, (("A red hen", 11), ("hen", 17))),
        ({"text": [], "answer_start": []}, ()),
        ([], ()),
        ("", ()),
        ("hen", (("hen", 17),)),
        (["hen", "A red hen"], (("hen", 17), ("A red hen", 11))),
    ],
)
def test_every_form_of_answers(tmp_path: Path, given, expected):
    rows = rows_of(3)
    rows[1]["answers"] = given
    assert train_of(rows).columns["answers"][1] == expected
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train_of(str(file)).columns["answers"][1] == expected


def test_a_flat_csv(in_folder: Path):
    rows = [
        ("which bird?", CONTEXT, "hen", 17),
        ("who?", CONTEXT, "", ""),
        ("what colour?", CONTEXT, "red", 2),
    ]
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "context", "answer", "answer_start"), *rows])
    dataset = dataset_of("a.csv")
    assert dataset.splits["train"].columns["answers"] == [(("hen", 17),), (), (("red", 2),)]
    assert "Train: 1 of 3 questions have no answer in the context." in dataset.decisions


def test_wrong_positions_are_corrected_where_that_is_certain_and_said():
    rows = rows_of(300)
    rows[4]["answers"] = [{"text": "hen", "answer_start": 3}]
    rows[5]["answers"] = [{"text": "fox", "answer_start": None}]
    rows[6]["answers"] = [{"text": "red", "answer_start": 3}]  # occurs twice
    rows[7]["answers"] = [{"text": "red", "answer_start": 3}, HEN]
    dataset = dataset_of(rows)
    train = dataset.splits["train"]
    assert len(train) == 299 and "list of dicts, row 7" not in train.row_ids
    assert train.columns["answers"][4:7] == [(("hen", 17),), (("fox", 6),), (("red", None), ("hen", 17))]
    said = [sentence for sentence in dataset.decisions if sentence.startswith("Train: ")]
    assert said == [
        "Train: 3 rows with a wrong or missing answer_start, corrected where the answer occurs exactly once in the "
        "context: list of dicts, row 5, list of dicts, row 6, list of dicts, row 8.",
        "Train: 1 row whose answer is not found in the context left out: list of dicts, row 7.",
    ]


def test_rows_that_are_only_scored_stay():
    rows = rows_of(300)
    rows[6]["answers"] = [{"text": "swan", "answer_start": 3}]
    dataset = dataset_of({"train": rows_of(2), "test": rows})
    assert len(dataset.splits["test"]) == 300
    assert any("not found in the context scored all the same" in said for said in dataset.decisions)


def test_many_answers_that_are_nowhere_are_a_broken_file():
    rows = rows_of(100)
    for row in (3, 9):
        rows[row]["answers"] = [{"text": "swan", "answer_start": 3}]
    with pytest.raises(
        DataError, match=r"in 2 of 100 rows no answer stands at its answer_start.* row 4.* row 10"
    ):
        dataset_of(rows)


def test_a_single_answer_that_is_nowhere_is_no_broken_file_but_a_row_must_remain():
    rows = rows_of(4)
    rows[2]["answers"] = [{"text": "swan", "answer_start": 3}]
    assert len(train_of(rows)) == 3
    with pytest.raises(DataError, match="in 1 of 1 row no answer stands at its answer_start"):
        train_of(rows[2:3])
    rows[1]["answers"] = rows[2]["answers"]
    with pytest.raises(DataError, match="Up to 1% of the rows, or a single one, are left out aloud"):
        train_of(rows)


def test_positions_counted_from_one_are_told():
    rows = [{**row, "answers": [{"text": "red", "answer_start": 14}]} for row in rows_of(20)]
    with pytest.raises(
        DataError, match="counted from 1: subtract 1 from each; 20 of 20 wrong ones are then right"
    ):
        dataset_of(rows)


def test_answers_without_position_are_where_they_occur_once():
    texts = ["hen", "A red hen", "fox", "red", "", "A red fox", "A red fox."]
    rows = [{"question": f"{row}?", "context": CONTEXT, "answer": text} for row, text in enumerate(texts)]
    dataset = dataset_of(rows)
    train = dataset.splits["train"]
    assert train.columns["answers"][:4] == [(("hen", 17),), (("A red hen", 11),), (("fox", 6),), ()]
    assert [sentence for sentence in dataset.decisions if sentence.startswith("Train: ")] == [
        "Train: there is no answer_start; the answer of 5 rows is where it occurs exactly once in the context.",
        "Train: 1 row without answer_start whose answer the context holds several times left out: list of dicts, "
        "row 4.",
        "Train: 1 of 7 questions have no answer in the context.",
    ]
    assert len(dataset_of({"train": rows[:3], "test": rows}).splits["test"]) == 7
    with pytest.raises(
        DataError, match="in 1 of 1 row there is no answer_start, and its text does not occur"
    ):
        train_of(rows[3:4])


@pytest.mark.parametrize(
    "wrong",
    [None, 3, [3], ["hen", 3], [""], [{"text": ""}], [{"text": "hen", "answer_start": 1.5}], {"text": ["hen"]},
     {"text": ["hen"], "answer_start": []}, [{"text": "hen", "answer_start": True}]],
)  # fmt: skip
def test_answers_of_no_known_form_are_refused(wrong):
    rows = rows_of(4)
    rows[2]["answers"] = wrong
    with pytest.raises(DataError, match=r"holds no answers in 1 row .*row 3"):
        train_of(rows)


def test_one_context_stays_in_one_split_and_titles_can_group():
    rows = [
        {**row, "context": f"{CONTEXT} {number // 5}", "title": f"article {number // 20}"}
        for number, row in enumerate(rows_of(100))
    ]
    options = DataOptions()
    for chosen, unit, said in (
        (options, "context", "rows of one context kept together"),
        (
            options.model_copy(update={"group_column": "title"}),
            "title",
            "groups of 'title' and rows of one context",
        ),
    ):
        dataset = assemble(read_tables(rows, chosen), ROLES, chosen, 3)
        assert set(dataset.splits) == {"train", "validation", "test"}
        where = {}
        for name, split in dataset.splits.items():
            for row in split.row_ids:
                value = rows[int(row.rsplit(" ", 1)[1]) - 1][unit]
                assert where.setdefault(value, name) == name
        assert any(said in each for each in dataset.decisions)


def test_questions_and_contexts_are_told_by_their_names_only():
    rows = [{"first": "which bird?", "second": CONTEXT, "answers": [HEN]}] * 3
    with pytest.raises(DataError, match="no column is called question or context") as caught:
        dataset_of(rows)
    assert "data.columns.question=COLUMN data.columns.context=COLUMN" in str(caught.value)
    assert len(train_of(rows, columns={"question": "first", "context": "second"})) == 3


def test_checks_that_do_not_fit_stay_silent():
    rows = rows_of(40)
    rows[1] = {**rows[0], "answers": [{"text": "fox", "answer_start": 6}]}
    rows[3] = rows[2]
    rows[5] = {**rows[5], "question": " "}
    kinds = {finding.kind: finding.count for finding in check_dataset(dataset_of(rows), ROLES)}
    assert kinds == {"empty_text": 1, "duplicate_rows": 1}
    nothing = [{**row, "answers": []} for row in rows_of(3)]
    assert [finding.kind for finding in check_dataset(dataset_of(nothing), ROLES)] == ["no_answer"]
