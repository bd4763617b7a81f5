from __future__ import annotations

import random

import pytest

from graftlm.data.columns import assign_roles
from graftlm.data.roles import Role
from graftlm.data.table import Table
from graftlm.errors import ConfigurationError, DataError

WORDS = [
    "the",
    "a",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "while",
    "many",
    "people",
    "watch",
]


def text(fresh: random.Random, words: int) -> str:
    return " ".join(fresh.choices(WORDS, k=words)) + f" {fresh.random()}"


def table(typed: bool = False, **columns: list[object]) -> Table:
    rows = len(next(iter(columns.values())))
    return Table("a.csv", columns, range(2, rows + 2), typed)


def test_names_tell_the_roles(roles, fresh: random.Random):
    columns = {"id": [str(i) for i in range(50)], " Review": [text(fresh, 9) for _ in range(50)]}
    found = assign_roles(table(**columns, Category=["x", "y"] * 25), roles, {}, ())
    assert found.columns == {"text": " Review", "label": "Category"}
    assert found.reasons == [
        "text: column ' Review' (its name says so)",
        "label: column 'Category' (its name says so)",
    ]


def test_the_name_of_the_role_wins(roles):
    columns = {
        "label_text": ["a", "b"],
        "label": ["0", "1"],
        "class": ["c", "d"],
        "text": ["x", "y"],
        "title": ["z"] * 2,
    }
    assert assign_roles(table(**columns), roles, {}, ()).columns == {"text": "text", "label": "label"}


def test_two_names_fit(roles):
    with pytest.raises(DataError) as caught:
        assign_roles(table(review=["a b"], title=["c"], label=["x"]), roles, {}, ())
    assert "which column is the text? Candidates: 'review', 'title'" in str(caught.value)
    assert "data.columns.text=review or data.columns.text=title" in str(caught.value)


def test_contents_tell_the_roles(roles, fresh: random.Random):
    found = assign_roles(
        table(
            key=[f"user-{i}@mail.org" for i in range(60)],
            was_written=[f"2024-01-{1 + i % 28:02d}" for i in range(60)],
            what_they_said=[text(fresh, 12) for _ in range(60)],
            team=["billing", "sales", "other"] * 20,
            language=["en"] * 60,
            amount=[f"{fresh.random():.3f}" for _ in range(60)],
        ),
        roles,
        {},
        (),
    )
    assert found.columns == {"text": "what_they_said", "label": "team"}
    assert found.reasons[1] == "label: column 'team' (it repeats 3 short values)"
    assert "the longest text" in found.reasons[0]


def test_two_contents_fit(roles, fresh: random.Random):
    columns = {"one": ["x", "y"] * 20, "two": ["p", "q"] * 20, "text": [text(fresh, 5) for _ in range(40)]}
    with pytest.raises(DataError, match=r"which column is the label\? Candidates: 'one', 'two'"):
        assign_roles(table(**columns), roles, {}, ())
    assert assign_roles(table(**columns), roles, {}, {"one"}).columns["label"] == "two"
    assert assign_roles(table(**columns), roles, {"label": "one"}, ()).columns["label"] == "one"
    texts = {"said": [text(fresh, 9) for _ in range(40)], "heard": [text(fresh, 9) for _ in range(40)]}
    with pytest.raises(DataError, match=r"which column is the text\? Candidates: 'said', 'heard'"):
        assign_roles(table(**texts, label=["x", "y"] * 20), roles, {}, ())


def test_chosen_columns_are_checked(roles):
    given = table(body=["a", "b"], kind=["x", "y"])
    chosen = assign_roles(given, roles, {"text": "body", "label": "kind"}, ())
    assert chosen.reasons == ["text: column 'body' (chosen)", "label: column 'kind' (chosen)"]
    with pytest.raises(
        ConfigurationError, match=r"data\.columns\.txt: the task has no role 'txt'\. Did you mean 'text'"
    ):
        assign_roles(given, roles, {"txt": "body"}, ())
    with pytest.raises(
        ConfigurationError, match=r"data\.columns\.text: a\.csv has no column 'bdy'\. Did you mean 'body'"
    ):
        assign_roles(given, roles, {"text": "bdy"}, ())
    with pytest.raises(ConfigurationError, match=r"column 'body' is also data\.columns\."):
        assign_roles(given, roles, {"text": "body", "label": "body"}, ())


@pytest.mark.parametrize("typed", [True, False])
def test_regression_target(roles, fresh: random.Random, typed: bool):
    scores: list[object] = [fresh.random() * 5 for _ in range(90)]
    given = table(
        typed, text=[text(fresh, 5) for _ in range(90)], label=scores if typed else list(map(str, scores))
    )
    with pytest.raises(
        DataError, match=r"label column 'label' holds numbers with fractions .*regression target"
    ):
        assign_roles(given, roles, {}, ())


def test_two_texts_for_a_task_of_pairs(fresh: random.Random):
    pair = (Role("premise", "text"), Role("hypothesis", "text"), Role("label", "label"))
    columns = {"label": ["x", "y"], "hypothesis": ["a b", "c"], "premise": ["d", "e f"]}
    assert assign_roles(table(**columns), pair, {}, ()).columns == {
        "premise": "premise",
        "hypothesis": "hypothesis",
        "label": "label",
    }


@pytest.mark.parametrize(
    ("columns", "advised"),
    [
        ({"stars": ["1.5", "2.0", "4.5"] * 10}, ["task.name=text_regression data.columns.number=stars"]),
        ({"score": list(map(str, range(30)))}, ["task.name=text_regression data.columns.number=score"]),
        ({"score": ["1,020.5", "2,020.5"] * 15}, ["task.name=text_regression data.columns.number=score"]),
        ({"id": list(map(str, range(30)))}, ["name it: data.columns.label=id"]),
        (
            {"instruction": ["do it"] * 30, "output": [f"it is done {row}" for row in range(30)]},
            ["task.name=text_generation data.columns.source=instruction data.columns.target=output"],
        ),
        ({"translation": [{"en": "a", "de": "b"}] * 30}, ["each part of 'translation' ('en', 'de')"]),
        (
            {"food": ["0", "1"] * 15, "room 2": ["0", "1", "1"] * 10},
            ["data.columns.label=food or ", "data.label_columns='[food, \"room 2\"]'"],
        ),
    ],
)
def test_what_to_do_without_a_label(roles, columns: dict[str, list[object]], advised: list[str]):
    texts: list[object] = [f"text {row} of some words" for row in range(30)]
    with pytest.raises(DataError) as caught:
        assign_roles(table(text=texts, **columns), roles, {}, ())
    for words in advised:
        assert words in str(caught.value)
    assert str(caught.value).count("text_regression") == str(advised).count("text_regression")
