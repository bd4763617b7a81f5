from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Made
from tests.rows import classified_rows, write_csv

from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.run import Run

ROWS = classified_rows(30, seed=99)


@pytest.fixture
def truth(finished: Made) -> list[str]:
    return [
        prediction.label for prediction in Predictor.open(finished.run, "cpu")([row["text"] for row in ROWS])
    ]


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_csv_and_jsonl_in_row_order(finished: Made, truth: list[str], place: Path, graft) -> None:
    write_csv(place / "rows.csv", [{"id": str(at), **row} for at, row in enumerate(ROWS)])
    with (place / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": row["text"]}) + "\n" for row in ROWS)
    for name, first in (("rows.csv", 2), ("rows.jsonl", 1)):
        outcome = graft("predict", finished.run, name, "evaluation.batch_tokens=50", "--quiet")
        assert (outcome.code, outcome.err) == (0, "")
        assert [line["row"] for line in outcome.lines()] == [f"{name}:{first + at}" for at in range(30)]
        assert [line["label"] for line in outcome.lines()] == truth
        for line in outcome.lines():
            assert sum(line["scores"].values()) == pytest.approx(1)
            assert line["score"] == max(line["scores"].values()) == line["scores"][line["label"]]


def test_rows_over_several_lines_keep_their_place(finished: Made, place: Path, graft) -> None:
    (place / "rows.csv").write_text('text\n"a train\nor a bus"\nthe ticket\n')
    outcome = graft("predict", finished.run / "model", "rows.csv", "--quiet")
    assert [line["row"] for line in outcome.lines()] == ["rows.csv:2", "rows.csv:4"]


def test_standard_input(finished: Made, truth: list[str], graft, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(row["text"] + "\r\n" for row in ROWS).encode()
    for content, words in ((text, []), (b"\xef\xbb\xbf" + text, ["-"])):
        feed(monkeypatch, content)
        outcome = graft("predict", finished.run, *words)
        assert (outcome.code, outcome.err) == (0, "")
        assert [line["row"] for line in outcome.lines()] == [f"line {at}" for at in range(1, 31)]
        assert [line["label"] for line in outcome.lines()] == truth


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\nb\xe9\n", "line 3: byte 0xe9 is not UTF-8"),
    ],
)
def test_lines_that_are_no_text(
    finished: Made, graft, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    feed(monkeypatch, content)
    outcome = graft("predict", finished.run)
    assert outcome.code == 2
    assert outcome.err.startswith(f"graft: {message}")


def test_lines_without_text_keep_their_place(finished: Made, graft, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"refund\n\n   \nparcel\n")
    answers = graft("predict", finished.run).lines()
    assert [answer["row"] for answer in answers] == ["line 1", "line 2", "line 3", "line 4"]
    assert [answer.get("error") for answer in answers] == [
        None,
        "the line is empty",
        "the line is empty",
        None,
    ]


def test_lines_end_at_line_feeds_only(finished: Made, graft, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "a\u2028b\x0bc\n😀 übel".encode())
    assert [line["row"] for line in graft("predict", finished.run).lines()] == ["line 1", "line 2"]


def test_empty_input_gives_nothing(finished: Made, graft, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"")
    outcome = graft("predict", finished.run)
    assert (outcome.code, outcome.out) == (0, "")


def test_rows_without_text_are_refused_or_left_out_aloud(finished: Made, place: Path, graft) -> None:
    write_csv(
        place / "rows.csv",
        [{"text": "the bus", "n": "1"}, {"text": " ", "n": "2"}, {"text": "the car", "n": "3"}],
    )
    outcome = graft("predict", finished.run, "rows.csv", "--quiet")
    assert outcome.code == 2
    assert "1 row with an empty text" in outcome.err
    assert "rows.csv:3" in outcome.err
    assert outcome.out == ""
    left = graft("predict", finished.run, "rows.csv", "data.drop_empty_text=true")
    assert [line["row"] for line in left.lines()] == ["rows.csv:2", "rows.csv:4"]
    assert "warning: 1 row with an empty text left out" in left.err


def test_output_is_whole_or_absent_and_never_replaced(
    finished: Made, place: Path, graft, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(place / "rows.csv", ROWS)
    assert graft("predict", finished.run, "rows.csv", "--output", "out.jsonl").code == 0
    printed = graft("predict", finished.run, "rows.csv", "--quiet").out
    assert Path("out.jsonl").read_text() == printed
    again = graft("predict", finished.run, "rows.csv", "--output", "out.jsonl")
    assert again.code == 2
    assert "out.jsonl: this file exists already" in again.err
    nowhere = graft("predict", finished.run, "rows.csv", "--output", "nowhere/out.jsonl")
    assert nowhere.code == 3
    assert "cannot write the predictions: No such file" in nowhere.err

    outputs = Predictor.outputs

    def second_part_fails(self: Predictor, split: Any, *rest: Any) -> Any:
        if split.row_ids[0] != "rows.csv:2":
            raise DataError("broken")
        return outputs(self, split, *rest)

    monkeypatch.setattr("graftlm.workflows.predict._CHUNK", 10)
    monkeypatch.setattr(Predictor, "outputs", second_part_fails)
    broken = graft("predict", finished.run, "rows.csv", "--output", "half.jsonl")
    assert broken.code == 2
    assert sorted(path.name for path in place.iterdir()) == ["out.jsonl", "rows.csv"]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("evaluate", "rows.csv", "training.epochs=3", "seed=2"), "training.epochs"),
        (("evaluate", "rows.csv", "strategy=full", "data={columns: {text: text}, test: x.csv}"),
         "strategy, data.test"),
        (("evaluate", "rows.csv", "data.path=other.csv"), "data.path"),
        (("predict", "rows.csv", "objective.label_smoothing=0.1"), "objective.label_smoothing"),
        (("predict", "rows.csv", "evaluation.confidence=0.9"), "evaluation.confidence"),
        (("predict", "-", "data.columns.text=text"), "data.columns.text"),
        (("predict", "data.path=rows.csv"), "data.path"),
    ],
)  # fmt: skip
def test_keys_without_effect_are_refused(
    finished: Made, place: Path, graft, words: tuple[str, ...], refused: str
) -> None:
    write_csv(place / "rows.csv", ROWS)
    outcome = graft(words[0], finished.run, *words[1:])
    assert outcome.code == 2
    assert outcome.err.startswith(f"graft: {refused}: graft {words[0]}")
    assert "has no use for this; the keys that it uses are " in outcome.err
    assert "training.device, evaluation.batch_tokens" in " ".join(outcome.err.split())
    assert outcome.out == ""


def test_labels_are_not_changed_on_the_way_out(finished: Made, tmp_path: Path, graft) -> None:
    outcome = graft("predict", finished.run, finished.data)
    assert {line["label"] for line in outcome.lines()} <= {"anger", "joy", "travel", "weather"}
    assert "\x1b" not in outcome.out


def test_a_conversation_on_a_terminal(finished: Made, warm_python: str) -> None:
    first, second = pty.openpty()
    command = [warm_python, "-m", "graftlm", "predict", str(finished.run)]
    with subprocess.Popen(command, stdin=second, stdout=second, stderr=second, close_fds=True) as child:
        os.close(second)
        seen = b""

        def until(mark: bytes) -> None:
            nonlocal seen
            while mark not in seen:
                piece = os.read(first, 4096)
                assert piece, seen
                seen += piece

        until(b"> ")
        os.write(first, b"the train and the bus or a ticket\n")
        until(b"%")
        os.write(first, b"\n")
        child.wait(timeout=30)
    os.close(first)
    assert child.returncode == 0
    assert b"an empty line ends" in seen
    assert b"travel" in seen


@pytest.mark.parametrize("what", ["missing", "unfinished", "base", "file"])
def test_predicting_without_a_model(
    what: str, place: Path, tiny_bert: Path, graft, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "unfinished").mkdir()
    (place / "unfinished" / "run.json").write_text('{"format_version": 1, "state": "interrupted"}')
    (place / "file").write_text("")
    expected = {
        "missing": "there is no run or model folder 'missing'",
        "unfinished": "this run has no model yet\n  What to do: finish it: graft finetune --resume unfinished",
        "base": "this folder has no graftlm.json: GraftLM did not write it",
        "file": "there is no run or model folder 'file'",
    }
    feed(monkeypatch, b"text\n")
    outcome = graft("predict", tiny_bert if what == "base" else what)
    assert outcome.code == 2
    assert expected[what] in outcome.err


def test_evaluation_equals_counting_by_hand(finished: Made, truth: list[str], place: Path, graft) -> None:
    write_csv(place / "rows.csv", ROWS)
    right = sum(row["label"] == label for row, label in zip(ROWS, truth, strict=True)) / len(ROWS)
    outcome = graft("evaluate", finished.run, "rows.csv", "evaluation.resamples=200", "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    scores = outcome.json()
    assert scores["values"]["accuracy"]["value"] == pytest.approx(right)
    assert (scores["rows"], scores["resamples"], scores["labels"]) == (
        30,
        200,
        ["anger", "joy", "travel", "weather"],
    )
    shown = graft("evaluate", finished.run / "model", "rows.csv", "evaluation.resamples=200")
    assert "rows.csv, 30 rows" in shown.out
    assert f"{right:.3f}" in shown.out


def test_evaluating_the_test_rows_again_gives_the_recorded_score(finished: Made, place: Path, graft) -> None:
    run = Run.open(finished.run)
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    texts = finished.data.read_text().splitlines()
    numbers = [int(line["row"].rsplit(":", 1)[1]) for line in lines]
    (place / "test.csv").write_text("\n".join([texts[0], *(texts[number - 1] for number in numbers)]) + "\n")
    again = graft("evaluate", finished.run, "test.csv", "evaluation.resamples=100", "--json").json()
    assert again.pop("rows_in_training") == 0
    assert again == run.evaluation("test")["scores"]


def test_rows_that_were_in_training_are_counted_and_named(finished: Made, place: Path, graft) -> None:
    """Of a whole file, what was not carved from it; also in other case and spacing, and by the model folder."""
    known = Run.open(finished.run).record["data"]["rows"]["train"]
    for path in (finished.run, finished.run / "model"):
        outcome = graft("evaluate", path, finished.data, "evaluation.resamples=100")
        warning = " ".join(outcome.err.split())
        assert f"{known} of 80 rows with a text that was in training" in warning
        assert "reviews.csv:" in warning
        assert "What to do: leave these rows out" in warning
        assert f"{known} of these 80 rows have a text that was in training" in outcome.out
    respelt = [{**row, "text": f"  {row['text'].upper()}\t"} for row in classified_rows(80)]
    write_csv(place / "rows.csv", [*ROWS, *respelt])
    outcome = graft("evaluate", finished.run, "rows.csv", "evaluation.resamples=100", "--json")
    assert outcome.json()["rows_in_training"] == known
    assert "rows.csv:2," not in outcome.err


def test_of_a_folder_the_test_split_is_scored_aloud_and_another_on_demand(
    finished: Made, place: Path, graft
) -> None:
    rows = classified_rows(30, seed=11)
    (place / "parts").mkdir()
    for name, first, last in (("train", 0, 5), ("validation", 5, 12), ("test", 12, 30)):
        write_csv(place / "parts" / f"{name}.csv", rows[first:last])
    words = ("evaluate", finished.run, "parts", "evaluation.resamples=100", "--json")
    outcome = graft(*words)
    assert outcome.json()["rows"] == 18
    said = " ".join(outcome.err.split())
    assert "Rows are those of the test split of parts; train, validation left aside." in said
    for name, count in (("validation", 7), ("train", 5)):
        scored = graft(*words, "--split", name).json()
        assert (scored["split"], scored["rows"]) == (name, count)
    (place / "parts" / "test.csv").unlink()
    refused = graft(*words)
    assert refused.code == 2 and "--split train" in refused.err
    write_csv(place / "all.csv", rows)
    refused = graft("evaluate", finished.run, "all.csv", "--split", "test")
    assert refused.code == 2 and "no splits" in refused.err and "data.split_column" in refused.err
    split = [{**row, "split": ("train", "test", "validation")[at % 3]} for at, row in enumerate(rows)]
    write_csv(place / "column.csv", split)
    found = graft(
        "evaluate", finished.run, "column.csv", "--split", "validation", "evaluation.resamples=100", "--json"
    )
    assert found.json()["rows"] == 10 and "calls validation" in found.err


@pytest.mark.parametrize("keep", ["best", "last"])
def test_rows_that_chose_the_weights_are_said_to_have(keep: str, tiny_bert: Path, place: Path, graft) -> None:
    rows = classified_rows(40, seed=12)
    (place / "parts").mkdir()
    for name, first, last in (("train", 0, 20), ("validation", 20, 30), ("test", 30, 40)):
        write_csv(place / "parts" / f"{name}.csv", rows[first:last])
    words = (
        "training.epochs=1",
        "evaluation.resamples=100",
        "evaluation.proof=none",
        f"training.keep={keep}",
    )
    graft("finetune", "parts", f"base={tiny_bert}", *words, "--run-dir", "run")
    for split, chose in (("validation", keep == "best"), ("test", False)):
        outcome = graft("evaluate", "run", "parts", "--split", split, "evaluation.resamples=100")
        assert outcome.code == 0
        assert ("these rows also chose the weights" in " ".join(outcome.err.split())) == chose


def test_of_a_file_with_a_split_column_the_test_rows_are_scored(
    finished: Made, place: Path, graft, truth: list[str]
) -> None:
    """As a training reads it; predictions are still of all rows."""
    names = ["train", "test", "dev"] * 10
    rows = [{**row, "split": name} for row, name in zip(ROWS, names, strict=True)]
    write_csv(place / "rows.csv", rows)
    right = [row["label"] == label for row, label in zip(ROWS, truth, strict=True)]
    words = ("evaluate", finished.run, "rows.csv", "evaluation.resamples=100", "--json")
    outcome = graft(*words)
    scores = outcome.json()
    assert (scores["split"], scores["rows"], scores["values"]["accuracy"]["value"]) == (
        "test",
        10,
        pytest.approx(sum(right[1::3]) / 10),
    )
    assert "calls test, 10 of 30 rows (data.split_column=null takes all)" in " ".join(outcome.err.split())
    whole = graft(*words, "data.split_column=null").json()
    assert whole["rows"] == 30 and "split" not in whole
    assert len(graft("predict", finished.run, "rows.csv").lines()) == 30
    write_csv(place / "rows.csv", [row for row in rows if row["split"] != "test"])
    refused = graft(*words)
    assert refused.code == 2
    assert "the split column 'split' calls rows train and validation, and none test" in refused.err
    write_csv(place / "rows.csv", [{**row, "part": name} for row, name in zip(ROWS, names, strict=True)])
    assert graft(*words).json()["rows"] == 30
    assert graft(*words, "data.split_column=part").json()["rows"] == 10
    assert "has no column 'prt'" in graft(*words, "data.split_column=prt").err
    model = json.loads((finished.run / "model" / "graftlm.json").read_text())
    model["reading"]["split_column"] = "part"  # as a training on this file would have written
    shutil.copytree(finished.run / "model", place / "model")
    (place / "model" / "graftlm.json").write_text(json.dumps(model))
    assert graft("evaluate", "model", *words[2:]).json()["rows"] == 10


def test_without_its_run_a_model_knows_no_training_texts(finished: Made, place: Path, graft) -> None:
    shutil.copytree(finished.run / "model", place / "model")
    shutil.copytree(finished.run, place / "run")
    (place / "run" / "training_texts.bin").unlink()
    for path in ("model", "run"):
        outcome = graft("evaluate", path, finished.data, "evaluation.resamples=100", "--json")
        assert "rows_in_training" not in outcome.json()
        assert "warning" not in outcome.err
    (place / "run" / "training_texts.bin").write_bytes(b"x" * 15)
    outcome = graft("evaluate", "run", finished.data)
    assert outcome.code == 2
    assert "training_texts.bin: the hashes of the training texts are damaged" in outcome.err


def test_training_texts_stay_out_of_the_model(finished: Made) -> None:
    assert (finished.run / "training_texts.bin").stat().st_size == 16 * 58
    assert not list((finished.run / "model").rglob("training_texts*"))


def test_stored_scores_are_shown_without_data(finished: Made, graft) -> None:
    outcome = graft("evaluate", finished.run)
    assert outcome.code == 0
    assert "test, 16 rows" in outcome.out
    assert graft("evaluate", finished.run, "--json").json()["evaluation"] == Run.open(
        finished.run
    ).evaluation("test")


def test_an_unfinished_run_has_no_scores(place: Path, graft) -> None:
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text('{"format_version": 1, "state": "interrupted"}')
    outcome = graft("evaluate", "run")
    assert outcome.code == 2
    assert "run: this run is interrupted, so it has no scores yet" in outcome.err
    assert "graft finetune --resume run" in outcome.err


def test_unknown_labels_are_refused_with_their_place(finished: Made, place: Path, graft) -> None:
    write_csv(
        place / "rows.csv",
        [*ROWS[:3], {"text": "the bus", "label": "Travel"}, *ROWS[3:], {"text": "x", "label": "Travel"}],
    )
    outcome = graft("evaluate", finished.run, "rows.csv")
    assert outcome.code == 2
    assert (
        "rows.csv:5: 2 rows with labels this model does not know: Travel; it knows anger, joy, travel, weather"
        in outcome.err
    )
    assert "What to do: correct these labels" in outcome.err
