"""User text never leaves the user's file."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest
from tests.cli.conftest import Made
from tests.rows import classified_rows, write_csv


@pytest.fixture
def canary(seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_lowercase, k=200))


def shown(canary: str, text: str) -> bool:
    """Whether more than a clipped piece is there."""
    return any(canary[start : start + 61] in text for start in range(len(canary) - 60))


def test_no_text_in_anything_a_run_writes_or_says(finished: Made, canary: str, place: Path, graft) -> None:
    rows = [{**row, "text": f"{row['text']} {canary}"} for row in classified_rows(40)]
    write_csv(place / "data.csv", rows)
    outcome = graft("finetune", "data.csv", *finished.words, "training.epochs=1", "--run-dir", "run")
    assert outcome.code == 0, outcome.err
    said = [outcome.out, outcome.err]
    (place / "texts.txt").write_text("".join(row["text"] + "\n" for row in rows))
    for words in (["check", "data.csv"], ["check", "data.csv", "--json"], ["predict", "run", "data.csv"],
                  ["evaluate", "run", "data.csv"], ["finetune", "data.csv", *finished.words, "--dry-run"]):  # fmt: skip
        outcome = graft(*words)
        said += [outcome.out, outcome.err]
    assert not any(shown(canary, text) for text in said)
    files = [path for path in (place / "run").rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        assert canary[:20].encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "content",
    [
        'text,label\n"{0}",a\n{0}\n', 'text,label\n"{0},a\n', "text,label\n{0},a\n{0},b,c\n", "{0},a\n{0},b\n",
        "text,label\n{0},\n{0},a\n", "label,note\n{0},{0}\n{0}x,{0}\n", "text,label\n{0},a\n{0},a\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["check", "finetune"])
def test_no_text_in_errors(finished: Made, canary: str, place: Path, graft, content: str, verb: str) -> None:
    (place / "data.csv").write_text(content.format(canary))
    words = finished.words if verb == "finetune" else ()
    outcome = graft(verb, "data.csv", *words)
    assert outcome.code in (2, 5)
    assert not shown(canary, outcome.out + outcome.err)


def test_no_text_in_an_error_of_prediction(finished: Made, canary: str, place: Path, graft) -> None:
    with (place / "rows.jsonl").open("w") as file:
        for text in (canary, canary + "\x01", " "):
            file.write(json.dumps({"text": text}) + "\n")
    outcome = graft("predict", finished.run, "rows.jsonl")
    assert outcome.code == 2
    assert "rows.jsonl:3" in outcome.err
    assert not shown(canary, outcome.out + outcome.err)
