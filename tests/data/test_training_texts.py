"""Which rows were in training, whatever way their words are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftlm.data.dataset import Split
from graftlm.data.normalising import text_keys
from graftlm.data.roles import ENTITIES, TEXT, WORDS
from graftlm.data.training_texts import rows_in_training, write_training_texts
from graftlm.rundir import RunDirectory

TEXTS = ["Anna met Tom.", "Li left."]
WORDS_OF_TEXTS = [("Anna", "met", "Tom", "."), ("Li", "left", ".")]


def split_of(values: object, role: str = "tokens") -> Split:
    rows = list(values)  # pyright: ignore
    return Split("all", {role: rows}, [f"row {row}" for row in range(len(rows))])


@pytest.mark.parametrize("trained", [TEXTS, WORDS_OF_TEXTS])
def test_a_text_and_the_list_of_its_words_are_one(tmp_path: Path, trained: object) -> None:
    run = RunDirectory(tmp_path)
    write_training_texts(run, split_of(trained), (WORDS, ENTITIES))
    for given in (TEXTS, WORDS_OF_TEXTS, [text.upper() for text in TEXTS]):
        assert rows_in_training(run, split_of([*given, "Anna met Tim."]), (WORDS, ENTITIES)) == [0, 1]


def test_runs_that_kept_the_spaces_between_words_still_tell(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.training_texts.write_bytes(b"".join(sorted(text_keys([WORDS_OF_TEXTS]))))
    assert rows_in_training(run, split_of(WORDS_OF_TEXTS), (WORDS, ENTITIES)) == [0, 1]


def test_texts_keep_their_spaces(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_training_texts(run, split_of(["a man ate"], "text"), (TEXT,))
    assert rows_in_training(run, split_of(["am an ate", "A man  ate"], "text"), (TEXT,)) == [1]
