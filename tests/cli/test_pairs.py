"""A model of pairs is asked with pairs, at every door."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.rows import classified_rows, write_csv

import graftlm
from graftlm.errors import DataError

pytestmark = pytest.mark.usefixtures("warm_children")


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
        with pytest.raises(
            DataError, match=r"a dict with premise, hypothesis or text, text_pair .* is wanted"
        ):
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


def test_new_rows_are_read_by_the_columns_of_training(place: Path, tiny_bert: Path, graft) -> None:
    """Names of columns would tell otherwise: the second text is called document, which is a usual name of the first."""
    rows = [
        {"claim": row["text"], "document": row["text"][::-1], "verdict": row["label"]}
        for row in classified_rows(60)
    ]
    write_csv(place / "claims.csv", rows)
    columns = [f"data.columns.{pair}" for pair in ("text=claim", "text_pair=document", "label=verdict")]
    words = ("training.epochs=1", "training.device=cpu", "evaluation.resamples=100", f"base={tiny_bert}")
    assert graft("finetune", "claims.csv", *columns, *words, "--run-dir", "run", "--quiet").code == 0
    written = graft("predict", "run", "claims.csv", "--quiet").lines()
    asked = graftlm.Run.open("run").predictor("cpu")(
        [{"text": row["claim"], "text_pair": row["document"]} for row in rows]
    )
    for line, prediction in zip(written, asked, strict=True):
        assert line["scores"] == pytest.approx(prediction.scores, rel=1e-4)
    # A choice of the user still wins.
    turned = graft(
        "predict",
        "run",
        "claims.csv",
        "data.columns.text=document",
        "data.columns.text_pair=claim",
        "--quiet",
    ).lines()
    assert turned[0]["scores"] != written[0]["scores"]
    scored = graft("evaluate", "run", "claims.csv", "--json", "--quiet").json()
    assert scored["values"]["accuracy"]["value"] == pytest.approx(
        sum(line["label"] == row["verdict"] for line, row in zip(written, rows, strict=True)) / len(rows)
    )


@pytest.mark.parametrize("style", ["separator", "columns"])
def test_sets_of_labels_are_scored_as_they_were_trained(
    style: str, place: Path, tiny_bert: Path, graft
) -> None:
    sets = {"anger": "bad|people", "joy": "people", "travel": "", "weather": "bad"}
    rows = [{"text": row["text"], "labels": sets[row["label"]]} for row in classified_rows(60)]
    if style == "columns":
        rows = [
            {
                "text": row["text"],
                "bad": str(int("bad" in row["labels"])),
                "people": str(int("people" in row["labels"])),
            }
            for row in rows
        ]
    write_csv(place / "posts.csv", rows)
    chosen = {"separator": "data.label_separator=|", "columns": "data.label_columns=[bad, people]"}[style]
    words = ("training.epochs=1", "training.device=cpu", "evaluation.resamples=100", f"base={tiny_bert}")
    named = ("task.name=multi_label_classification", chosen)
    done = graft("finetune", "posts.csv", *named, *words, "--run-dir", "run", "--quiet")
    assert (done.code, done.err) == (0, "")
    for extra in ([], [chosen]):
        scored = graft("evaluate", "run", "posts.csv", *extra, "--json", "--quiet")
        assert scored.code == 0, scored.err
        assert scored.json()["labels"] == ["bad", "people"]
