"""Conversations: what a training would refuse is found before it, and a misspelt speaker does not pass silently."""

from __future__ import annotations

from typing import Any

import pytest

from graftlm.checking.findings import Finding, examine_rows, require_clean
from graftlm.errors import DataError
from graftlm.recipe import load_recipe


def rows_of(count: int = 30) -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": f"what is {number} and one"},
            {"role": "assistant", "content": f"that is {number + 1}"},
            {"role": "user", "content": "and two"},
            {"role": "assistant", "content": f"that is {number + 2}"},
        ]
        for number in range(count)
    ]


def found_in(talks: list[list[dict[str, str]]], **changes: Any) -> dict[str, Finding]:
    recipe = load_recipe(
        None, {"task.name": "dialogue", "data.validation_share": 0.0, "data.test_share": 0.0, **changes}
    )
    _, findings = examine_rows(recipe, [{"messages": talk} for talk in talks])
    return {finding.kind: finding for finding in findings}


def test_clean_conversations_have_a_note_about_who_speaks() -> None:
    found = found_in(rows_of())
    assert set(found) == {"roles"}
    assert found["roles"].message == "messages of train by role: user 60, assistant 60"


def test_what_a_training_refuses_is_an_error_with_its_places() -> None:
    talks = rows_of()
    talks[3] = talks[3][:-1]
    talks[7] = [{"role": "system", "content": "be kind"}]
    finding = found_in(talks)["no_reply"]
    assert (finding.severity, finding.count) == ("error", 2)
    assert [place.rpartition(" ")[2] for place in finding.places] == ["4", "8"]
    with pytest.raises(DataError, match="2 of 30 conversations do not end with a message of the assistant"):
        require_clean([finding])


def test_roles_to_be_learnt_must_be_heard() -> None:
    found = found_in(rows_of(), **{"task.loss_roles": ["assistant", "bott"]})
    assert found["unheard_role"].severity == "error"
    assert "nobody speaks as bott in train; the roles are assistant, user" in found["unheard_role"].message
    questions = [talk[:1] for talk in rows_of()]
    assert found_in(questions).keys() >= {"unheard_role", "no_reply"}


def test_a_misspelt_speaker_is_named_and_a_speaker_of_another_kind_is_not() -> None:
    talks = rows_of()
    for row in (2, 5):
        talks[row][1]["role"] = "asistant"
    talks[9][1]["role"] = "tool"
    talks[11][1]["role"] = "narrator"
    talks[12][0]["role"] = "customer"
    found = found_in(talks)
    finding = found["misspelt_role"]
    assert (finding.severity, finding.count) == ("warning", 2)
    assert "'asistant', which are not learnt; did you mean 'assistant'?" in finding.message
    assert "asistant 2" in found["roles"].message
    assert "misspelt_role" not in found_in(talks, **{"task.loss_roles": ["assistant", "asistant"]})
