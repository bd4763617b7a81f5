"""The recipes that people start from are valid, and every task has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftlm.catalog import Catalog
from graftlm.pretraining_recipe import load_pretraining
from graftlm.recipe import load_recipe

FOLDER = Path(__file__).parents[1] / "recipes"
FILES = sorted(FOLDER.glob("*.yaml"))
PRETRAINING = sorted((FOLDER / "pretraining").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_is_valid_and_says_how_to_start_it(file: Path) -> None:
    load_recipe(file, {"data.path": "rows.csv"})
    assert f"graft finetune recipes/{file.name} data.path=" in file.read_text(encoding="utf-8").replace(
        "#\n", ""
    )


def test_every_task_has_a_recipe() -> None:
    tasks = {load_recipe(file).task.name for file in FILES}  # pyright: ignore[reportAttributeAccessIssue]
    assert tasks == set(Catalog("tasks").names())


@pytest.mark.parametrize("file", PRETRAINING, ids=lambda file: file.stem)
def test_a_recipe_of_pretraining_is_valid(file: Path) -> None:
    load_pretraining(file)
