from __future__ import annotations

from typing import Any

import datasets
import pandas
import pytest

from graftlm.data.dataset import Split
from graftlm.data.given_rows import split_of_rows
from graftlm.data.messages import Message
from graftlm.data.roles import MESSAGES, TEXT, TEXT_PAIR, WORDS, Role
from graftlm.errors import DataError

ROWS = [
    {"review": "good soup", "hint": "never", "stars": 1},
    {"review": "bad soup", "hint": "again", "stars": 2},
]
FRAME = pandas.DataFrame(ROWS, index=[7, 7])
PAIR = (TEXT, TEXT_PAIR)
CALLED = {"text": "review", "text_pair": "hint"}
TURNS = [{"role": "user", "content": "hi"}]


def read(rows: object, *roles: Role, trained: dict[str, str] | None = None) -> Split:
    return split_of_rows(rows, roles or (TEXT,), CALLED if trained is None else trained)


@pytest.mark.parametrize(
    "rows",
    [
        FRAME, FRAME[["stars", "review"]], FRAME["review"], FRAME["review"].to_numpy(), ROWS, tuple(ROWS),
        FRAME.rename(columns={"review": "text"}), datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list(ROWS)["review"], (row["review"] for row in ROWS), iter(ROWS),
        [{"text": "good soup"}, {"review": "bad soup", "text": "the column of the training goes before"}],
    ],
)  # fmt: skip
def test_every_kind_of_rows_gives_the_texts(rows: object) -> None:
    split = read(rows)
    assert split.columns == {"text": ["good soup", "bad soup"]}
    assert split.row_ids == ["text 0", "text 1"]


@pytest.mark.parametrize(
    "rows",
    [
        FRAME, ROWS, datasets.Dataset.from_list(ROWS), [("good soup", "never"), ["bad soup", "again"]],
        zip(FRAME["review"], FRAME["hint"], strict=True),
        [{"text": row["review"], "text_pair": row["hint"]} for row in ROWS],
    ],
)  # fmt: skip
def test_rows_of_two_parts(rows: object) -> None:
    assert read(rows, *PAIR).columns == {"text": ["good soup", "bad soup"], "text_pair": ["never", "again"]}


def test_a_column_that_is_called_like_another_role_is_not_taken_for_it() -> None:
    trained = {"text": "sentence", "text_pair": "text"}
    assert read([{"text": "a", "text_pair": "b"}], *PAIR, trained=trained).columns["text"] == ["a"]
    assert read([{"text": "a", "sentence": "b"}], *PAIR, trained=trained).columns["text"] == ["b"]


@pytest.mark.parametrize("rows", [[], FRAME.iloc[:0], datasets.Dataset.from_list(ROWS).select([]), iter([])])
def test_no_rows_give_nothing(rows: object) -> None:
    assert read(rows).columns == {"text": []}
    assert len(read(rows, *PAIR)) == 0


def test_words_and_conversations_keep_their_form() -> None:
    frame = pandas.DataFrame({"tokens": [["New", "York"], "a text"], "messages": [TURNS, TURNS]})
    for rows in (frame, frame.to_dict("records"), datasets.Dataset.from_list([{"tokens": ["New", "York"]}])):
        assert read(rows, WORDS).columns["tokens"][0] in (("New", "York"), ["New", "York"])
    for rows in (frame, frame.to_dict("records"), [TURNS, TURNS]):
        assert read(rows, MESSAGES).columns["messages"] == [(Message("user", "hi"),)] * 2


@pytest.mark.parametrize(
    ("rows", "roles", "message", "fix"),
    [
        (FRAME[["stars"]], (TEXT,), "the model reads 'review' or 'text'; the columns of these rows: 'stars'",
         "rename the columns, or give the texts alone: predictor(rows[COLUMN])"),
        (FRAME[["review"]], PAIR, "the model reads 'review' and 'hint' or 'text' and 'text_pair'", "rename"),
        (pandas.DataFrame([["a"]]), (TEXT,), "the columns of these rows: 0", "rename"),
        (pandas.DataFrame({"review": ["a", None]}), (TEXT,), "text 1 (0-based): a non-empty text is wanted", "leave"),
        ("one text", (TEXT,), "a list of texts is wanted, got one text", "predictor([text])"),
        ({"review": ["a"]}, (TEXT,), "got one dict with 'review'", 'predictor(rows["review"])'),
        ({"text": ["a"], "text_pair": ["b"]}, PAIR, "got one dict", 'predictor(zip(rows["text"], rows["text_pair"]))'),
        ({"train": FRAME}, (TEXT,), "got one dict with 'train'", "for one row write predictor([row])"),
        (3, (TEXT,), "a list of rows is wanted, got int", "predictor([row"),
        ({"a", "b"}, (TEXT,), "a list of rows is wanted, got set", "predictor([row"),
        (["good soup", "", "bad soup"], (TEXT,), "text 1 (0-based): a non-empty text is wanted, got ''", "leave this"),
        ([{"stars": 1}], (TEXT,), "row 0 (0-based): a dict with review or text is wanted, got one with 'stars'",
         "rename the key"),
        (["ab"], PAIR, "row 0 (0-based): a dict with review, hint or text, text_pair (or a tuple", "(text, text_pair)"),
        ([("a", "b"), ("a",)], PAIR, "row 1 (0-based)", "predictor([(text, text_pair), ...])"),
        ([{"review": "a", "text_pair": "b"}], PAIR, "got one with 'review', 'text_pair'", "predictor("),
        (TURNS, (MESSAGES,), "a dict with messages is wanted, got one with 'role', 'content'", "predictor([messages])"),
        (["hi"], (MESSAGES,), "text 0 (0-based): no conversation: it is str", 'write [{"role": "user"'),
        ([["New", ""]], (WORDS,), "a list of words is wanted, none of them empty", "leave out what is no word"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_to_write(
    rows: object, roles: tuple[Role, ...], message: str, fix: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(rows, *roles)
    assert message in str(caught.value)
    assert fix in caught.value.fix


def test_many_columns_are_not_all_listed() -> None:
    wide: Any = pandas.DataFrame({f"c{number}": ["x"] for number in range(500)})
    with pytest.raises(DataError, match="'c11' and 488 more"):
        read(wide)
