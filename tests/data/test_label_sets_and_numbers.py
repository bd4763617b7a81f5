"""Sets of labels and numbers as they are written, and every way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from graftlm.data.assembling import assemble
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import LABEL, LABEL_SET, NUMBER, TEXT, TEXT_PAIR
from graftlm.errors import ConfigurationError, DataError
from graftlm.opening import infer_task, open_rows


def train(rows, role, **options):
    chosen = DataOptions.model_validate({"validation_share": 0.0, "test_share": 0.0, **options})
    return assemble(read_tables(rows, chosen), (TEXT, TEXT_PAIR, role), chosen, 0).splits["train"].columns


def texts(*labels, name="labels"):
    return [{"text": f"text number {row}", name: label} for row, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["joy", "anger"], ("anger", "joy")),
        ("joy, anger", ("anger", "joy")),
        ("joy", ("joy",)),
        ([3, 10], ("10", "3")),
        ([], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_ways_to_write_labels(written, read):
    assert train(texts(written, ["x"]), LABEL_SET)["labels"] == [read, ("x",)]


def test_another_separator():
    assert train(texts("a, b|c", "b"), LABEL_SET, label_separator="|")["labels"] == [("a, b", "c"), ("b",)]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (1.5, "is neither a list of names nor a string in 1 row"),
        (["a", None], "is neither a list of names nor a string"),
        ("a,,b", "holds an empty name"),
        (["a", "a"], "names a label twice"),
    ],
)
def test_bad_labels_are_refused_with_their_place(written, problem):
    with pytest.raises(DataError) as caught:
        train(texts(["a"], written), LABEL_SET)
    assert problem in str(caught.value)
    assert "list of dicts, row 2" in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [
        ([0, 1], [1, 0]),
        ([0, 0, 0], [1, 1, 0]),
        ([0.0, 1.0], [1.0, 1.0]),
        ([True, False], [False, True]),
        ("0,1", "1,0"),
        ([0, 0],),
    ],
)
def test_places_of_labels_are_not_their_names(rows):
    with pytest.raises(
        DataError, match=r"values that are 0 or 1 .*places of labels[^$]*data\.label_columns=.\[a, b\]"
    ):
        train(texts(*rows), LABEL_SET)


@pytest.mark.parametrize(
    "rows", [([0, 1], [1, 2]), ([0, 1], [1]), ([0, 1], []), ([0, 1], [0, 1]), ([0], [1])]
)
def test_labels_may_be_called_0_and_1(rows):
    assert train(texts(*rows), LABEL_SET)["labels"] == [tuple(map(str, row)) for row in rows]


@pytest.mark.parametrize("written", ["['a', 'b']", '["a"]', "[]", "[1, 2]", "['a' 'b']", " ['a'] "])
def test_lists_written_as_text_are_refused(written):
    with pytest.raises(DataError, match=r"lists written as text in 1 row .*row 2") as caught:
        train(texts("a", written), LABEL_SET)
    assert "lines=True" in str(caught.value)
    assert train(texts("[a]", "[b"), LABEL_SET)["labels"] == [("[a]",), ("[b",)]


def test_one_column_for_each_label():
    rows = [
        {"text": "one", "toxic": "1", "insult": "0"},
        {"text": "two", "toxic": "true", "insult": "1"},
        {"text": "three", "toxic": "0", "insult": "False"},
    ]
    columns = train(rows, LABEL_SET, label_columns=["toxic", "insult"])
    assert columns == {"text": ["one", "two", "three"], "labels": [("toxic",), ("insult", "toxic"), ()]}
    rows[1]["insult"] = "2"
    with pytest.raises(DataError, match=r"'insult' must hold 1 or 0 .* '2'; first: list of dicts, row 2"):
        train(rows, LABEL_SET, label_columns=["toxic", "insult"])
    with pytest.raises(ConfigurationError, match=r"no column 'toxik'. Did you mean 'toxic'"):
        train(rows, LABEL_SET, label_columns=["toxik"])
    with pytest.raises(ConfigurationError, match="any number of labels"):
        train(rows, NUMBER, label_columns=["toxic"])
    rows[1]["insult"] = "1"
    chosen = DataOptions(label_columns=["toxic", "insult"], validation_share=0.0, test_share=0.0)
    said = assemble(read_tables(rows, chosen), (TEXT, LABEL_SET), chosen, 0).decisions
    assert any("labels: columns 'toxic', 'insult' (chosen)." in sentence for sentence in said)


@pytest.mark.parametrize(
    ("written", "read"), [("3", 3.0), ("-2.5e1", -25.0), (4, 4.0), (np.float64(0.5).item(), 0.5)]
)
def test_ways_to_write_numbers(written, read):
    assert train(texts(written, "7.5", name="score"), NUMBER)["number"] == [read, 7.5]


@pytest.mark.parametrize("written", ["", None, "nan", "inf", "1,5", "good", True, [1.0], 10**400])
def test_bad_numbers_are_refused_with_their_place(written):
    with pytest.raises(DataError, match=r"no finite number in 1 row .* list of dicts, row 2"):
        train(texts(1.5, written, name="score"), NUMBER)


@pytest.mark.parametrize("written", [1.1e100, "-1e200", 10**101])
def test_numbers_whose_squares_overflow_are_refused_with_their_place(written):
    with pytest.raises(DataError, match=r"beyond 1e\+100 in 1 row .* list of dicts, row 2") as caught:
        train(texts(1.5, written, name="score"), NUMBER)
    assert "logarithm" in caught.value.fix


def test_a_validation_split_keeps_the_rarest_labels():
    rows = texts(*([["common"]] * 60 + [["common", "rare"]] * 20))
    chosen = DataOptions(validation_share=0.25, test_share=0.0)
    splits = assemble(read_tables(rows, chosen), (TEXT, LABEL_SET), chosen, 1).splits
    assert sum("rare" in labels for labels in splits["validation"].columns["labels"]) == 5


def tables(*rows):
    return read_tables(list(rows), DataOptions())


def test_the_task_is_told_by_the_columns():
    numbers = [{"text": f"t {row}", "score": row + 0.25} for row in range(30)]
    assert infer_task(tables(*numbers), DataOptions())[0] == "text_regression"
    name, reason = infer_task(tables(*texts(["a"], ["a", "b"])), DataOptions())
    assert (name, reason) == ("multi_label_classification", "column 'labels' holds lists")
    assert infer_task(tables(*texts("a", "b", name="label")), DataOptions()) == ("text_classification", "")
    # A column of classes beside a column of numbers: the classes are the label, as before.
    both = [{**row, "label": "ab"[index % 2]} for index, row in enumerate(numbers)]
    assert infer_task(tables(*both), DataOptions())[0] == "text_classification"
    chosen = DataOptions(columns={"label": "score"})
    assert infer_task(tables(*numbers), chosen)[0] == "text_classification"
    flags = DataOptions(label_columns=["a", "b"])
    assert infer_task(tables({"text": "t", "a": 1, "b": 0}), flags)[0] == "multi_label_classification"


def test_a_few_bad_rows_do_not_change_what_a_column_is_for():
    scores = [f"{row}.25" for row in range(40)]
    for bad in ("nan", "good"):
        assert infer_task(tables(*texts(*scores, bad, name="score")), DataOptions())[0] == "text_regression"
    with pytest.raises(DataError, match=r"no finite number in 1 row \(for instance 'nan'\); .*row 41"):
        train(texts(*scores, "nan", name="score"), NUMBER)
    mixed = texts(*[["a", "b"]] * 20, "a")
    assert infer_task(tables(*mixed), DataOptions())[0] == "multi_label_classification"
    with pytest.raises(DataError, match=r"20 rows hold list[^$]*task\.name=multi_label_classification"):
        train(mixed, LABEL)


@pytest.mark.parametrize("form", ["{},5", "${}.25", "1,0{:02}.5", "{} €", "{:.1f} %"])
def test_numbers_only_a_reader_takes_for_such_are_refused_as_numbers(form):
    rows = texts(*(form.format(row) for row in range(40)), name="price")
    assert infer_task(tables(*rows), DataOptions())[0] == "text_regression"
    with pytest.raises(DataError, match="no thousands separators, no units"):
        train(rows, NUMBER)


def test_labels_beside_columns_for_writing_are_said():
    row = {"dialogue": "a b c", "summary": "a", "topic": "x"}
    name, reason = infer_task(tables(row), DataOptions())
    assert name == "text_classification"
    assert "to write 'summary' from 'dialogue' set task.name=text_generation" in reason


def test_an_inferred_task_is_said_and_keeps_its_own_options():
    rows = [{"text": f"t {row}", "score": row + 0.25} for row in range(30)]
    recipe, read = open_rows(None, {"task.primary_metric": "spearman"}, rows)
    assert (recipe.task.name, recipe.task.primary_metric) == ("text_regression", "spearman")  # pyright: ignore
    assert recipe.objective.name == "mean_squared_error"  # pyright: ignore
    assert any("The task is text_regression, because column 'score'" in said for said in read.decisions)
    with pytest.raises(
        ConfigurationError, match=r"trains label_sets, and task.name=text_regression answers with"
    ):
        open_rows(None, {"objective.name": "binary_cross_entropy"}, rows)
    with pytest.raises(ConfigurationError, match="must be one of mean_squared_error"):
        open_rows(None, {"task.primary_metric": "accuracy"}, rows)


def test_a_column_of_split_names_is_used_and_said():
    rows = [
        {"text": f"t {row}", "label": "ab"[row % 2], "Split": name}
        for row, name in enumerate(["train", "train", "valid", "test"] * 4)
    ]
    recipe, read = open_rows(None, {}, rows, outline=True)
    assert recipe.data.split_column == "Split"
    assert any("Column 'Split' names the split of each row" in said for said in read.decisions)
    for left in (
        {"data.split_column": None},
        {"data.columns.label": "Split"},
        {"data.group_column": "Split"},
    ):
        assert open_rows(None, left, rows, outline=True)[0].data.split_column is None
    for other in ("", "4", None):
        rows[3]["Split"] = other  # pyright: ignore
        assert open_rows(None, {}, rows, outline=True)[0].data.split_column is None


def test_pairs_are_found_by_their_names():
    rows = [
        {"sentence1": "a b", "sentence2": "c d", "label": "x"},
        {"sentence1": "e", "sentence2": "f", "label": "y"},
    ]
    columns = train(rows, LABEL)
    assert columns == {"text": ["a b", "e"], "text_pair": ["c d", "f"], "label": ["x", "y"]}
    assert "text_pair" not in train(texts("a", "b", name="label"), LABEL)


def test_arrays_of_a_data_frame_are_lists():
    frame = pandas.DataFrame(
        {"text": ["one", "two"], "labels": [np.array(["a", "b"]), np.array([], dtype=object)]}
    )
    assert train(frame, LABEL_SET)["labels"] == [("a", "b"), ()]
