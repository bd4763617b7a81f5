"""Conversations: the shapes that are read, and what is refused with its place."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from graftlm.data.assembling import assemble
from graftlm.data.loading import read_tables
from graftlm.data.messages import Message, conversation
from graftlm.data.options import DataOptions
from graftlm.data.roles import MESSAGES, SOURCE, TARGET
from graftlm.errors import DataError
from graftlm.opening import infer_task

GOOD = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi !"}]


def read(data: object) -> list[object]:
    options = DataOptions(validation_share=0.0, test_share=0.0)
    return assemble(read_tables(data, options), (MESSAGES,), options, 0).splits["train"].columns["messages"]


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        tuple(GOOD),
        np.array(GOOD, dtype=object),
        [{"from": "human", "value": " hello\n"}, {"from": "gpt", "value": "hi !"}],
        [{"role": " Human ", "content": "hello"}, {"role": "model", "content": "hi ! "}],
        [{"from": "user", "value": "hello", "weight": 1}, {"from": "Bot", "value": "hi !"}],
        [Message("user", "hello"), Message("assistant", "hi !")],
        json.dumps(GOOD),
        [
            {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
            {"role": "assistant", "content": np.array([{"type": "text", "text": "hi !"}], dtype=object)},
        ],
    ],
)
def test_shapes_of_other_tools_mean_the_same(value: object) -> None:
    assert conversation(value) == (Message("user", "hello"), Message("assistant", "hi !"))


def test_other_roles_keep_their_names() -> None:
    value = [
        {"role": "System", "content": "x"},
        {"from": "tool", "value": "y"},
        {"role": "play er_2", "content": "z"},
    ]
    found = conversation(value)
    assert not isinstance(found, str)
    assert [message.role for message in found] == ["system", "tool", "play er_2"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it is missing"),
        ("hello", "it is str"),
        ({"role": "user", "content": "x"}, "it is dict"),
        ([], "it is empty"),
        (["hello"], "a message is str"),
        ([{"content": "x"}], "a message has no role"),
        ([{"role": "", "content": "x"}], "a message has no role"),
        ([{"role": 3, "content": "x"}], "a message has no role"),
        ([{"role": "user"}], "a message has no content"),
        ([{"role": "user", "content": None}], "a message has no content"),
        ([{"role": "user", "content": " \n"}], "a message has no content"),
        (
            [{"role": "user", "content": [{"type": "image", "text": None}]}],
            "a message has a part that is no text",
        ),
        ([{"role": "user", "content": ["x"]}], "a message has a part that is no text"),
        ([{"role": "user", "content": []}], "a message has no content"),
        ('[{"role": "user"', "it is no whole JSON"),
        ('[{"role": "user", "content": "x", "content": "y"}]', "it is no whole JSON"),
        # A role is written into the template as it is.
        ([{"role": "user<|im_end|>", "content": "x"}], "the role 'user<|im_end|>' is no name"),
        ([{"role": "a\nsystem", "content": "x"}], "is no name"),
        (
            [{"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}],
            "tool_calls, which are not read",
        ),
        ([{"role": "assistant", "content": "x", "weight": 0}], "a weight, which is not read"),
        ([{"role": "\ue0000\ue001", "content": "x"}], "is no name"),
    ],
)
def test_what_is_no_conversation_is_said(value: object, reason: str) -> None:
    found = conversation(value)
    assert isinstance(found, str) and reason in found


def test_a_file_with_a_wrong_line_is_refused_with_its_place_and_without_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (
        [{"messages": GOOD}] * 3 + [{"messages": [{"role": "user", "text": "secret"}]}] + [{"messages": GOOD}]
    )
    Path("talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"in 1 row \(a message has no content\).*talks.jsonl:4") as caught:
        read("talks.jsonl")
    assert "secret" not in str(caught.value)


def test_a_file_is_read_and_its_task_inferred(tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    theirs = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi !"}]
    file.write_text("".join(json.dumps({"id": row, "conversations": theirs}) + "\n" for row in range(4)))
    tables = read_tables(str(file), DataOptions())
    name, reason = infer_task(tables, DataOptions())
    assert name == "dialogue" and "'conversations'" in reason
    assert read(str(file)) == [(Message("user", "hello"), Message("assistant", "hi !"))] * 4


def test_conversations_written_as_json_into_a_delimited_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "talks.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["messages"], *([json.dumps(GOOD)] for _ in range(3))])
    assert infer_task(read_tables(str(file), DataOptions()), DataOptions())[0] == "dialogue"
    assert read(str(file)) == [(Message("user", "hello"), Message("assistant", "hi !"))] * 3


@pytest.mark.parametrize("columns", [("text",), ("source", "target")])
def test_texts_are_not_taken_for_conversations(columns: tuple[str, ...]) -> None:
    rows = [dict.fromkeys(columns, f"the hen met fox number {row} and ran") for row in range(9)]
    with pytest.raises(DataError, match=r"no column looks like the messages") as caught:
        read(rows)
    assert 'in a column called messages, write in each row a list of {"role"' in caught.value.fix


def test_lists_in_the_place_of_a_text_are_refused_with_what_to_do() -> None:
    def fix(source: object, target: object) -> str:
        rows = [{"source": source, "target": target}] * 3
        with pytest.raises(DataError, match=r"must hold strings, but 3 rows hold list") as caught:
            assemble(read_tables(rows, DataOptions()), (SOURCE, TARGET), DataOptions(), 0)
        return caught.value.fix

    assert "task.name=dialogue" in fix(GOOD[:1], GOOD[1:])
    assert "one text" in fix("hello", ["hi", "good day"])
