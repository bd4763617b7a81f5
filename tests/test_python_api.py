from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from tests.rows import classified_rows, write_csv

import graftlm
from graftlm.errors import ConfigurationError, DataError, RunError
from graftlm.rundir import RunDirectory, write_json

ROWS = classified_rows(60)
SHORT = {
    "training.epochs": 1, "training.device": "cpu", "evaluation.proof": "none", "evaluation.resamples": 100,
}  # fmt: skip


def features() -> datasets.Features:
    names = sorted({row["label"] for row in ROWS}, reverse=True)
    return datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})


def test_every_kind_of_data_gives_the_same_run(tiny_bert: Path, tmp_path: Path) -> None:
    parquet = tmp_path / "rows.parquet"
    pandas.DataFrame(ROWS).to_parquet(parquet)
    given: dict[str, Any] = {
        "path": write_csv(tmp_path / "rows.csv", ROWS),
        "text of a path": str(parquet),
        "list of dicts": ROWS,
        "frame": pandas.DataFrame(ROWS, index=range(100, 160)),
        "categories": pandas.DataFrame(ROWS).astype({"label": "category"}),
        "datasets.Dataset": datasets.Dataset.from_list(ROWS),
        "class labels in another order": datasets.Dataset.from_list(ROWS).cast_column(
            "label", features()["label"]
        ),
    }
    runs = {
        name: graftlm.finetune(data, base=str(tiny_bert), run_directory=tmp_path / name, **SHORT)
        for name, data in given.items()
    }
    first = runs["path"]
    assert first.recipe.data.path == str(given["path"])
    assert runs["list of dicts"].recipe.data.path == ""
    for name, run in runs.items():
        assert run.record["data"]["fingerprints"] == first.record["data"]["fingerprints"], name
        assert run.metrics == first.metrics, name
        logs = [json.loads(line) for line in run.directory.steps.read_text().splitlines()]
        before = [json.loads(line) for line in first.directory.steps.read_text().splitlines()]
        assert [log.get("loss") for log in logs] == [log.get("loss") for log in before], name


def test_splits_given_apart_stay_apart(tiny_bert: Path, tmp_path: Path) -> None:
    parts = {"train": ROWS[:40], "validation": ROWS[40:50], "test": ROWS[50:]}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, rows in parts.items():
        write_csv(folder / f"{name}.csv", rows)
    given: list[Any] = [
        parts,
        {"train": pandas.DataFrame(parts["train"]), "dev": parts["validation"], "test": tuple(parts["test"])},
        datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}),
        folder,
    ]
    runs = [
        graftlm.finetune(data, base=str(tiny_bert), run_directory=tmp_path / str(at), **SHORT)
        for at, data in enumerate(given)
    ]
    assert runs[0].record["data"]["rows"] == {"train": 40, "validation": 10, "test": 10}
    assert len({json.dumps(run.record["data"]["fingerprints"]) for run in runs}) == 1
    assert len({json.dumps(run.metrics) for run in runs}) == 1


def test_a_run_tells_what_it_is(tiny_bert: Path, tmp_path: Path) -> None:
    run = graftlm.finetune(ROWS, base=str(tiny_bert), run_directory=str(tmp_path / "run"), **SHORT)
    assert run.headline_split == "test"
    assert run.metrics["accuracy"] == run.scores("test").values["accuracy"].value
    assert run.scores("test").headline == run.scores("test").values["accuracy"]
    assert run.recipe.training.epochs == 1
    assert run.report().startswith("# Report of run")
    assert graftlm.Run.open(run.path) == run
    assert run.predictor("cpu")(["the train"])[0].label in {"anger", "joy", "travel", "weather"}
    with pytest.raises(RunError, match="not a run"):
        graftlm.Run.open(tmp_path)


def test_what_a_run_has_not_written_is_said(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.update_record(state="finished")
    for split in ("validation", "test"):
        write_json(directory.evaluation(split), {})
    run = graftlm.Run.open(tmp_path)
    with pytest.raises(
        RunError, match=r"no scores of 'train' are stored; stored are those of test, valid"
    ) as caught:
        run.scores("train")
    assert "graftlm.evaluate(run.path, rows)" in caught.value.fix
    directory.update_record(state="interrupted")
    with pytest.raises(RunError, match="this run is interrupted, so it has no report") as caught:
        run.report()
    assert f"graft finetune --resume {tmp_path}" in caught.value.fix


def test_a_recipe_may_be_a_file_or_an_object(tiny_bert: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"base: {tiny_bert}\nseed: 4\nevaluation: {{proof: none, resamples: 100}}\n")
    one = graftlm.finetune(ROWS, recipe=file, run_directory=tmp_path / "1", **{"training.epochs": 1})
    recipe = graftlm.load_recipe(file, {"training.epochs": 1})
    other = graftlm.finetune(ROWS, recipe=recipe, run_directory=tmp_path / "2")
    assert one.recipe == other.recipe == recipe
    assert one.metrics == other.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train_epochs": 3}, "num_train_epochs: unknown option. Here it is training.epochs."),
        ({"per_device_train_batch_size": 8}, "Here it is training.micro_batch."),
        ({"epochs": 3}, "epochs: unknown option. Did you mean 'training.epochs'?"),
        ({"training.epochs": "3"}, "training.epochs: Input should be a valid number, got '3'"),
        (
            {"training": {"epochs": 3, "lr": 1}},
            "training.lr: unknown option. Here it is training.learning_rate.",
        ),
        ({"extend_epochs": 3}, "extend_epochs goes with resume"),
        ({"resume": "x", "base": "y"}, "a resumed run keeps its recipe"),
        ({"resume": "x", "run_directory": "y"}, "a resumed run keeps its directory"),
    ],
)
def test_wrong_keywords(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        graftlm.finetune(ROWS, **options)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_data_is_said() -> None:
    with pytest.raises(DataError, match=r"data.path: no data is given"):
        graftlm.finetune()


def test_a_run_with_rows_in_memory_is_resumed_with_the_same_rows(tiny_bert: Path, tmp_path: Path) -> None:
    run = graftlm.finetune(ROWS, base=str(tiny_bert), run_directory=tmp_path / "run", **SHORT)
    steps = run.record["steps"]
    with pytest.raises(RunError, match="this run was made with rows in memory") as caught:
        graftlm.finetune(resume=run.path, extend_epochs=2)
    assert "graftlm.finetune(data, resume=...)" in caught.value.fix
    with pytest.raises(RunError, match="data: the rows of train are not the same"):
        graftlm.finetune(classified_rows(60, seed=1), resume=run.path, extend_epochs=2)
    again = graftlm.finetune(pandas.DataFrame(ROWS), resume=run.path, extend_epochs=2)
    assert again.path == run.path
    assert again.record["steps"] == 2 * steps
    assert again.record["state"] == "finished"


def test_evaluate_on_other_rows(tiny_bert: Path, tmp_path: Path) -> None:
    run = graftlm.finetune(ROWS, base=str(tiny_bert), run_directory=tmp_path / "run", **SHORT)
    other = classified_rows(40, seed=5)
    scores = graftlm.evaluate(run.path, other)
    predicted = run.predictor("cpu")([row["text"] for row in other])
    right = sum(one.label == row["label"] for one, row in zip(predicted, other, strict=True))
    assert scores.headline.value == pytest.approx(right / 40)
    assert scores.rows_in_training == 0
    assert graftlm.evaluate(run.path, ROWS).rows_in_training == run.record["data"]["rows"]["train"]
    renamed = pandas.DataFrame(other).rename(columns={"text": "a", "label": "b"})
    assert graftlm.evaluate(run.path, renamed, columns={"text": "a", "label": "b"}) == scores
    assert graftlm.evaluate(run.directory.model, write_csv(tmp_path / "x.csv", other)) == scores
    with pytest.raises(
        ConfigurationError, match=r"data.colums: unknown option. Did you mean 'data.columns'\?"
    ):
        graftlm.evaluate(run.path, other, colums={})
    with pytest.raises(
        ConfigurationError, match=r"data.test_share: evaluate has no use for this; .* data.columns, "
    ):
        graftlm.evaluate(run.path, other, test_share=0.5)
    with pytest.raises(
        DataError, match=r"list of dicts, row 1: 1 row with labels this model does not know: hope"
    ):
        graftlm.evaluate(run.path, [{"text": "x", "label": "hope"}, other[0]])


def test_check_says_what_finetune_would(tmp_path: Path) -> None:
    result = graftlm.check([*ROWS, ROWS[0]])
    assert not result.clean
    assert {name: len(split) for name, split in result.dataset.splits.items()}.keys() == {
        "train",
        "validation",
        "test",
    }
    shown = repr(result)
    assert (
        shown.startswith("CheckResult(rows: train 44, validation 5, test 12; findings: ") and len(shown) < 150
    )
    assert repr(result.dataset.splits["test"]) == "Split('test', 12 rows of text, label)"
    assert "duplicate" in " ".join(finding.kind for finding in result.findings)
    with pytest.raises(DataError, match="there is no such file"):
        graftlm.check(tmp_path / "missing.csv")
    with pytest.raises(ConfigurationError, match=r"Did you mean 'data.columns'"):
        graftlm.check(ROWS, **{"data.colums": {}})
