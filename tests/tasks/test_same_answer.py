"""A model that answers every row alike is named, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tasks.test_contract import TASKS, rows_of, split_of

from graftlm.catalog import Catalog
from graftlm.data.words import word_offsets
from graftlm.tasks._written import quoted
from graftlm.tasks.multi_label_classification import LabelSetPrediction
from graftlm.tasks.question_answering import AnswerPrediction
from graftlm.tasks.text_classification import LabelPrediction
from graftlm.tasks.text_regression import NumberPrediction
from graftlm.tasks.token_classification import EntitiesPrediction
from graftlm.tasks.word_tagging import TagsPrediction

NO_ANSWER = AnswerPrediction("", None, None, 1.0, 0.0, ())


def outside(row: list[str]) -> EntitiesPrediction:
    return EntitiesPrediction((), ("O",) * len(row), tuple(word_offsets(row)))


def tagged(row: list[str], tag: str) -> TagsPrediction:
    return TagsPrediction((tag,) * len(row), (1.0,) * len(row), tuple(word_offsets(row)))


# Input of a row and its number -> an answer that is the same for all; what it is called; one that differs between rows.
CASES: dict[str, tuple[Any, str, Any]] = {
    "text_classification": (
        lambda _, at: LabelPrediction("joy", 0.5 + at / 100, {}), "the label 'joy'",
        lambda _, at: LabelPrediction("joy" if at else "anger", 0.5, {}),
    ),
    "multi_label_classification": (
        lambda _, at: LabelSetPrediction(("b", "a")[:: 1 if at else -1], {}), "the labels 'a', 'b'",
        lambda _, at: LabelSetPrediction(("a",) if at else (), {}),
    ),
    "text_regression": (
        lambda _, at: NumberPrediction(1038 + at / 100), "numbers near 1038",
        lambda _, at: NumberPrediction(1000.0 + at),
    ),
    "token_classification": (
        lambda row, _: outside(row), "no entity",
        lambda row, at: EntitiesPrediction((), ("B-PLACE", *outside(row).tags[1:]) if at else outside(row).tags, ()),
    ),
    "word_tagging": (
        lambda row, _: tagged(row, "O"), "the tag 'O'",
        lambda row, at: tagged(row, "O" if at else "BPLACE"),
    ),
    "question_answering": (
        lambda *_: NO_ANSWER, "no answer",
        lambda _, at: NO_ANSWER if at else AnswerPrediction("a", 0, 1, 1.0, 0.0, ()),
    ),
    "text_generation": (lambda *_: quoted("it is"), "one text of 5 characters", lambda _, at: quoted(str(at))),
    "dialogue": (lambda *_: quoted(""), "nothing", lambda _, at: quoted("x" if at else "")),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_that_is_always_the_same_is_named(name: str) -> None:
    task: Any = Catalog("tasks").get(name)()
    always, called, differing = CASES[name]
    split = split_of(name, rows_of(name, 20))
    inputs = split.columns[task.roles[0].name]
    assert task.same_answer([always(row, at) for at, row in enumerate(inputs)], split) == called
    assert task.same_answer([differing(row, at) for at, row in enumerate(inputs)], split) is None
    # Where all rows want the same, nothing is wrong with always saying it.
    if name != "question_answering":
        alike = split.take([0] * 5)
        one = {"token_classification": "O", "word_tagging": "O"}.get(name)
        if one is not None:
            alike.columns["tags"] = [(one,) * len(row) for row in alike.columns["tokens"]]  # pyright: ignore
        answers = [always(row, at) for at, row in enumerate(alike.columns[task.roles[0].name])]
        assert task.same_answer(answers, alike) is None
