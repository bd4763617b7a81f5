"""Tags that are prefixes alone: one type without a name; beside tags with types a mistake."""

from __future__ import annotations

import pytest

from graftlm.data.assembling import assemble
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import ENTITIES, WORDS
from graftlm.errors import DataError
from graftlm.opening import open_rows


def _rows(*tags: str) -> list[dict[str, list[str]]]:
    return [
        {"tokens": [f"w{at}" for at, _ in enumerate(each.split())], "tags": each.split()} for each in tags
    ]


def _read(*tags: str) -> tuple[list[object], list[str]]:
    options = DataOptions(validation_share=0.0, test_share=0.0)
    dataset = assemble(read_tables(_rows(*tags), options), (WORDS, ENTITIES), options, seed=0)
    return dataset.splits["train"].columns["tags"], dataset.decisions


def test_they_are_of_one_type_and_that_is_said() -> None:
    tags, said = _read("B I O", "O B O")
    assert tags == [("B-_", "I-_", "O"), ("O", "B-_", "O")]
    assert any("have no type; that of all entities is called _" in sentence for sentence in said)
    assert not any("no type" in sentence for sentence in _read("B-A I-A O", "O B-A O")[1])


def test_beside_tags_with_types_they_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 tag .*marks no entity: 'B'.*1 row, first: .*row 2"):
        _read("B-A I-A O", "O B O")


def test_the_task_is_that_of_entities() -> None:
    recipe, _ = open_rows(None, {"data.path": ""}, _rows("B I O", "O B O"))
    assert recipe.dump()["task"]["name"] == "token_classification"
