"""What the command line does not show of the workflows; the rest is tested through it in tests/cli."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rows import classified_rows, write_csv

import graftlm
from graftlm.data.options import DataOptions
from graftlm.data.roles import Role
from graftlm.errors import DataError, Diverged, RunError
from graftlm.fine_tuning import FineTuning
from graftlm.predictor import Predictor
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.run import Run
from graftlm.rundir import RunDirectory
from graftlm.workflows.check import check
from graftlm.workflows.demo import demo_recipe, sample_path
from graftlm.workflows.dry_run import dry_run
from graftlm.workflows.evaluate import evaluate
from graftlm.workflows.finetune import finetune, resume
from graftlm.workflows.new import option_lines
from graftlm.workflows.predict import predict_file, predict_lines
from graftlm.workflows.unseen_rows import read_unseen

TEXT = (Role("text", "text"),)


class Listener(Silent):
    """Remember what was said."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.counts: list[tuple[int, int]] = []
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def advance(self, done: int, total: int, **figures: object) -> None:
        self.counts.append((done, total))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    recipe = load_recipe(None, {"base": str(tiny_bert), "training.epochs": 1, "evaluation.proof": "none"})
    return finetune(recipe, classified_rows(40), tmp_path_factory.mktemp("workflows") / "run")


def test_unseen_rows_are_all_rows_in_order() -> None:
    rows = [{"text": row["text"]} for row in classified_rows(30)]
    split = read_unseen([*rows, rows[0]], TEXT, DataOptions(), {}, Silent())
    assert split.columns["text"] == [row["text"] for row in [*rows, rows[0]]]
    assert split.row_ids[0] == "list of dicts, row 1"


def test_unseen_rows_without_text_are_refused_or_left_out_aloud() -> None:
    rows = [{"text": "a"}, {"text": "\u3000"}, {"text": "b"}]
    with pytest.raises(DataError, match="1 row with an empty text") as caught:
        read_unseen(rows, TEXT, DataOptions(), {}, Silent())
    assert "list of dicts, row 2" in str(caught.value)
    assert "data.drop_empty_text=true" in str(caught.value)
    listener = Listener()
    split = read_unseen(rows, TEXT, DataOptions(drop_empty_text=True), {}, listener)
    assert split.row_ids == ["list of dicts, row 1", "list of dicts, row 3"]
    assert listener.warnings == ["1 row with an empty text left out"]


def test_an_evaluation_shows_how_far_its_tokenising_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftlm.tokenising.PORTION_ROWS", 16)
    monkeypatch.setattr("graftlm.tokenising.WATCHED_SECONDS", 0.0)
    listener = Listener()
    evaluate(run.path, classified_rows(40, seed=3), DataOptions(), "cpu", progress=listener, resamples=100)
    assert listener.stages == ["tokenising", "predicting"]
    assert listener.counts[:3] == [(16, 40), (32, 40), (40, 40)]
    assert listener.counts[-1] == (40, 40)


def test_pieces_of_a_file_are_joined_in_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.open(run.path, "cpu")
    rows = classified_rows(25, seed=3)
    options = DataOptions(path=str(write_csv(tmp_path / "rows.csv", rows)))
    whole = list(predict_file(predictor, options))
    monkeypatch.setattr("graftlm.workflows.predict._CHUNK", 4)
    listener = Listener()
    pieces = list(predict_file(predictor, options, progress=listener))
    lines = list(predict_lines(predictor, [row["text"].encode() for row in rows]))
    assert listener.counts == [(4, 25), (8, 25), (12, 25), (16, 25), (20, 25), (24, 25), (25, 25)]
    assert [one["row"] for one in pieces] == [f"{tmp_path}/rows.csv:{line}" for line in range(2, 27)]
    assert [one["row"] for one in lines] == [f"line {line}" for line in range(1, 26)]
    for one, two, three in zip(whole, pieces, lines, strict=True):
        assert one["label"] == two["label"] == three["label"]
        assert one["scores"] == pytest.approx(two["scores"], abs=1e-5)
        assert one["scores"] == pytest.approx(three["scores"], abs=1e-5)


def test_lines_are_predicted_as_they_come(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream is not read to its end before the first answer."""
    monkeypatch.setattr("graftlm.workflows.predict._CHUNK", 2)
    taken: list[int] = []

    def stream():
        for number in range(10):
            taken.append(number)
            yield b"the train\n"

    answers = predict_lines(Predictor.open(run.path, "cpu"), stream())
    assert next(answers)["row"] == "line 1"
    assert len(taken) == 2


def test_the_sample_of_the_demo_is_clean() -> None:
    recipe = demo_recipe()
    assert sample_path().is_file()
    assert recipe.base == "bundled:english-encoder"
    result = check(recipe)
    assert result.clean
    assert sum(len(split) for split in result.dataset.splits.values()) >= 500
    assert len(set(result.dataset.splits["train"].columns["label"])) >= 8
    own = {
        "base": load_recipe().base,
        "data.path": "",
        "training.epochs": None,
        "training.learning_rate": None,
    }
    assert recipe.changed(own) == load_recipe(), "else the defaults"


def test_a_dry_run_takes_rows_in_memory_and_leaves_nothing(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(None, {"base": str(tiny_bert), "training.epochs": 1, "training.batch_size": 64})
    text = dry_run(recipe, classified_rows(40)).to_yaml()
    assert "# 1 steps (1 passes over 29 rows)" in text
    assert "# learning rate 0.0001 at its peak, 64 rows a step; kept are the weights of the last step" in text
    assert list(tmp_path.iterdir()) == []


def test_without_a_prefix_no_plug_in_is_asked() -> None:
    keys = [key for key, *_ in option_lines()]
    assert "strategy.name" in keys
    assert "strategy.layer_decay" not in keys
    assert keys == list(dict.fromkeys(keys))


def test_a_second_process_is_refused(run: Run, tiny_bert: Path) -> None:
    with run.directory.locked(), pytest.raises(RunError, match="another process is working on this run"):
        resume(run.path, classified_rows(40), extend_epochs=2)
    assert run.record["state"] == "finished"


def test_divergence_is_recorded_and_saves_no_model(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = FineTuning.forward

    def poisoned(*arguments: object) -> object:
        outputs, targets = forward(*arguments)  # type: ignore
        return outputs * float("nan"), targets

    monkeypatch.setattr(FineTuning, "forward", staticmethod(poisoned))
    recipe = load_recipe(None, {"base": str(tiny_bert), "evaluation.proof": "none"})
    with pytest.raises(Diverged, match="step 1: loss nan"):
        finetune(recipe, classified_rows(40), tmp_path / "run")
    record = RunDirectory(tmp_path / "run").read_record()
    assert record["state"] == "failed"
    assert record["problem"].startswith("Diverged: step 1: loss nan")
    assert not (tmp_path / "run" / "model").exists()
    with pytest.raises(graftlm.GraftError, match="this run has no model yet"):
        Run.open(tmp_path / "run").predictor()


def test_an_unexpected_error_is_recorded_by_its_kind_only(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("the text of a user")

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr("graftlm.fine_tuning.prepare", broken)
        finetune(load_recipe(None, {"base": str(tiny_bert)}), classified_rows(40), tmp_path / "refused")
    assert not (tmp_path / "refused").exists(), "nothing happened yet, so nothing is left"
    monkeypatch.setattr("graftlm.training_run.fit", broken)
    with pytest.raises(KeyError):
        finetune(load_recipe(None, {"base": str(tiny_bert)}), classified_rows(40), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["problem"] == "KeyError: "
    assert record["state"] == "failed"
