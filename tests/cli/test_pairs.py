"""A model of pairs is asked with pairs, at every door."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.rows import classified_rows, write_csv

import graftlm
from graftlm.errors import DataError


@pytest.fixture
def pairs(place: Path, tiny_bert: Path, graft) -> Path:
    rows = classified_rows(50)
    joined = [
        {"premise": one["text"], "hypothesis": other["text"], "label": str(one["label"] == other["label"])}
        for one, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    joined += [
        {"premise": row["text"], "hypothesis": row["text"][::-1], "label": "True"} for row in rows[:30]
    ]
    write_csv(place / "pairs.csv", joined)
    words = ("training.epochs=1", "training.device=cpu", "evaluation.resamples=100", f"base={tiny_bert}")
    done = graft("finetune", "pairs.csv", *words, "--run-dir", "run", "--quiet")
    assert (done.code, done.err) == (0, "")
    return place


def test_a_pair_model_at_every_door(pairs: Path, graft, monkeypatch: pytest.MonkeyPatch) -> None:
    run = graftlm.Run.open("run")
    assert any(
        "text_pair: column 'hypothesis' (its name says so)" in said
        for said in run.record["data"]["decisions"]
    )
    assert run.record["proof"]["done"] is True
    written = graft("predict", "run", "pairs.csv", "--quiet")
    assert written.code == 0
    assert len(written.lines()) == 80
    predictor = run.predictor("cpu")
    (one,) = predictor([{"text": "the train", "text_pair": "a bus"}])
    (other,) = predictor([{"text": "a bus", "text_pair": "the train"}])
    assert one.scores != other.scores
    for rows in (["the train"], [{"text": "the train"}]):
        with pytest.raises(DataError, match="a dict with text, text_pair is wanted"):
            predictor(rows)
    with pytest.raises(DataError, match=r"text_pair 0 \(0-based\): a non-empty text is wanted"):
        predictor([{"text": "the train", "text_pair": " "}])
    (pairs / "single.csv").write_text("text,label\nthe train,True\n")
    refused = graft("predict", "run", "single.csv", "--quiet")
    assert refused.code == 2
    assert "no column looks like the text_pair" in refused.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the train\n"), encoding="ascii"))
    lines = graft("predict", "run")
    assert lines.code == 2
    assert "this model reads text and text_pair of each row, a line holds one text" in lines.err
    scored = graft("evaluate", "run", "pairs.csv", "--json", "--quiet")
    assert scored.json()["rows"] == 80
    card = (run.directory.model / "README.md").read_text()
    assert 'tokenizer(["your text"], ["your text pair"], truncation=True' in card
    assert json.loads((run.directory.model / "graftlm.json").read_text())["roles"] == [
        "text",
        "text_pair",
        "label",
    ]
