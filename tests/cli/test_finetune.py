from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Made
from tests.rows import classified_rows, write_csv
from tests.tiny import WORDS

from graftlm.recipe import load_recipe
from graftlm.run import Run

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_the_whole_road(finished: Made, place: Path, graft) -> None:
    outcome = graft("finetune", finished.data, *finished.words)
    assert outcome.code == 0, outcome.err
    (folder,) = (place / "runs").iterdir()
    assert re.fullmatch(r"reviews-\d{8}-\d{6}", folder.name)
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "recipe.yaml",
        "run.json",
        "steps.jsonl",
        "checkpoints",
        "model",
        "evaluations",
        "predictions",
    }
    record = Run.open(folder).record
    assert (record["state"], record["headline"], record["proof"]) == ("finished", "test", {"done": False})
    assert record["data"]["rows"] == {"train": 58, "validation": 6, "test": 16}
    # What was inferred is said; the score has its interval and its baseline beside it.
    assert "text: column 'text' (its name says so); label: column 'label' (its name says so)" in outcome.err
    assert re.search(r"accuracy +│ +\d\.\d{3} +│ +\d\.\d{3} – \d\.\d{3} +│ +0\.250", outcome.out)
    assert "baseline: always the most frequent training label" in outcome.out
    assert "NOT proved" in outcome.out
    assert str(Path("runs") / folder.name) in outcome.out
    assert not CONTROL.search(outcome.out + outcome.err)


def test_json_is_one_object_and_nothing_else(finished: Made, place: Path, graft) -> None:
    outcome = graft("finetune", finished.data, *finished.words, "--json", "--quiet", "--run-dir", "mine")
    result = outcome.json()
    assert (outcome.code, outcome.err) == (0, "")
    assert (result["run"], result["headline"], result["proof"]) == ("mine", "test", {"done": False})
    scores = result["evaluation"]["scores"]
    assert result["evaluation"] == json.loads((place / "mine" / "evaluations" / "test.json").read_text())
    assert scores["values"]["accuracy"]["low"] <= scores["values"]["accuracy"]["value"]
    # The same recipe on the same rows is the same run.
    before = Run.open(finished.run)
    assert Run.open("mine").record["data"]["fingerprints"] == before.record["data"]["fingerprints"]
    assert (place / "mine" / "predictions" / "test.jsonl").read_text() == before.directory.predictions(
        "test"
    ).read_text()


def test_quiet_prints_nothing(finished: Made, place: Path, graft) -> None:
    outcome = graft("finetune", finished.data, *finished.words, "training.epochs=1", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_nothing_held_out_gives_a_model_without_a_score(finished: Made, place: Path, graft) -> None:
    nothing = ("data.test_share=0", "data.validation_share=0", "training.epochs=1", "--run-dir", "run")
    outcome = graft("finetune", finished.data, *finished.words, *nothing)
    assert outcome.code == 0, outcome.err
    assert "Nothing was held out, so there is no score." in outcome.out
    assert "nothing is known about how well it does" in (place / "run" / "model" / "README.md").read_text()
    assert graft("evaluate", "run").code == 0
    assert graft("evaluate", "run", "--json").json()["headline"] is None
    assert Run.open("run").metrics == {}


def test_a_recipe_file_with_overrides(finished: Made, place: Path, graft) -> None:
    text = f"base: {finished.words[0].removeprefix('base=')}\ndata:\n  path: {finished.data}\nseed: 5\n"
    Path("recipe.yaml").write_text(text)
    words = [*finished.words[1:], "training.epochs=1", "--run-dir", "run", "--quiet"]
    assert graft("finetune", "recipe.yaml", *words).code == 0
    recipe = load_recipe(Path("run/recipe.yaml"))
    assert (recipe.seed, recipe.training.epochs, recipe.data.path) == (5, 1, str(finished.data))


def test_dry_run_prints_a_recipe_and_writes_nothing(finished: Made, place: Path, graft) -> None:
    outcome = graft("finetune", finished.data, *finished.words, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert list(place.iterdir()) == []
    expected = load_recipe(None, [*finished.words, ("data.path", str(finished.data))])
    assert yaml.safe_load(outcome.out) == expected.dump()
    (place / "recipe.yaml").write_text(outcome.out)
    assert load_recipe(place / "recipe.yaml") == expected
    comments = [line for line in outcome.out.splitlines() if line.startswith("#")]
    assert any("24 steps (6 passes over 58 rows)" in line for line in comments)
    assert any("4 labels: anger, joy, travel, weather" in line for line in comments)
    assert any("parameters move" in line for line in comments)
    assert any(re.search(r"about \d+ s of training on cpu", line) for line in comments)


def test_a_dry_run_as_json_is_one_object_with_recipe_and_costs(finished: Made, place: Path, graft) -> None:
    found = graft("finetune", finished.data, *finished.words, "--dry-run", "--json").json()
    expected = load_recipe(None, [*finished.words, ("data.path", str(finished.data))])
    assert found["recipe"] == expected.dump()
    costs = found["costs"]
    assert (costs["steps"], costs["epochs"], costs["train_rows"], costs["device"]) == (24, 6, 58, "cpu")
    assert costs["seconds"] == pytest.approx(costs["training_tokens"] / costs["tokens_per_second"])
    assert costs["state_bytes"] == 16 * costs["parameters"] == 16 * costs["moving_parameters"]
    assert any("4 labels: anger, joy, travel, weather" in line for line in found["said"])


def test_a_dry_run_of_a_pretraining_as_json_is_one_object(place: Path, graft) -> None:
    rng = random.Random(3)
    documents = [" ".join(rng.choices(WORDS[:80], k=30)) for _ in range(60)]
    Path("texts.txt").write_text("\n\n".join(documents), encoding="utf-8")
    words = (
        "base=bert-tiny", "corpus.document=blank_line", "corpus.held_out_share=0.1", "tokenizer.vocabulary_size=250",
        "training.max_length_tokens=24", "training.batch_tokens=480",
    )  # fmt: skip
    found = graft("pretrain", "texts.txt", *words, "--dry-run", "--json").json()
    assert found["recipe"]["corpus"]["path"] == "texts.txt" and found["costs"]["steps"] > 0


def test_a_dry_run_survives_labels_that_look_like_markup(finished: Made, place: Path, graft) -> None:
    rows = classified_rows(40, ("[red]", ":car:", "a\tb", "1e5"))
    write_csv(place / "odd [bold] :100: name.csv", rows)
    outcome = graft("finetune", "odd [bold] :100: name.csv", *finished.words, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["data"]["path"] == "odd [bold] :100: name.csv"
    assert "# 4 labels: 1e5, :car:, [red], a\tb" not in outcome.err
    assert ":car:" in outcome.out
    assert "[red]" in outcome.out


def test_names_that_look_like_something_else_survive_the_whole_road(
    finished: Made, place: Path, graft
) -> None:
    rows = classified_rows(40, ("no", "1e5", "[red]", ":car:"))
    write_csv(place / "😀 [bold].csv", [{"2e-5": row["text"], "null": row["label"]} for row in rows])
    words = [*finished.words, 'data.columns={"text": "2e-5", "label": "null"}', "training.epochs=1"]
    outcome = graft("finetune", "😀 [bold].csv", *words, "--run-dir", "run")
    assert outcome.code == 0, outcome.err
    assert "😀 [bold].csv" in outcome.err
    assert Run.open("run").record["labels"] == ["1e5", ":car:", "[red]", "no"]
    assert load_recipe(Path("run/recipe.yaml")).data.columns == {"text": "2e-5", "label": "null"}
    scored = graft("evaluate", "run", "😀 [bold].csv", words[-2])
    assert scored.code == 0, scored.err
    assert "😀 [bold].csv, 40 rows" in scored.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["finetune"], 2, "either a data file or recipe, or --resume RUN is needed"),
        (["finetune", "missing.csv"], 2, "missing.csv: there is no such file. Did you mean 'mising.csv'?"),
        (["finetune", "missing.yaml"], 2, "there is no recipe 'missing.yaml'"),
        (["finetune", "mising.csv", "training.epoch=3"], 2, "Did you mean 'training.epochs'?"),
        (["finetune", "mising.csv", "--extend-epochs", "3"], 2, "--extend-epochs goes with --resume RUN"),
        (["finetune", "--resume", "nowhere"], 2, "there is no run or model folder 'nowhere'"),
        (["finetune", "--resume", "nowhere", "training.epochs=3"], 2, "leave everything else out (--extend-epochs"),
        (["finetune", "--resume", "nowhere", "--run-dir", "x"], 2, "a resumed run keeps its recipe and its directory"),
        (["finetune", "mising.csv", "--run-dir", "mising.csv"], 2, "a run never overwrites anything"),
        (["finetune", "mising.csv", "--run-dir", "mising.csv/x"], 3, "the run directory cannot be created"),
        (["finetune", "mising.csv", "base=nowhere"], 2, "base: "),
        (["finetune", "mising.csv", "base=bundled:minilm"], 2, "Did you mean 'minilm-l6'"),
        (["finetune", "mising.csv", "training.device=cuda"], 3, "there is no cuda device"),
        (["fintune", "mising.csv"], 2, "finetune"),
        (["finetune", "mising.csv", "--epochs", "3"], 2, "--epochs"),
        (["finetune", "mising.csv", "--output-dir", "x"], 2, "What to do: Here it is the option --run-dir"),
        (["finetune", "bad.csv"], 2, "bad.csv:3"),
        (["finetune", "mising.csv", "task.max_length_tokens=65"], 2, "task.max_length_tokens: 65 tokens exceed"),
    ],
)  # fmt: skip
def test_refusals(
    words: list[str],
    code: int,
    message: str,
    tiny_bert: Path,
    place: Path,
    graft,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_csv(place / "mising.csv", classified_rows(20))
    (place / "bad.csv").write_text("text,label\na,b\nc\n")
    if "base=" not in "".join(words) and "mising.csv" in words and "finetune" in words:
        words = [*words[:2], f"base={tiny_bert}", *words[2:]]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = graft(*words)
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert re.search(r"^graft: ", outcome.err, re.MULTILINE)
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_a_finished_run_is_not_resumed_but_extended(finished: Made, place: Path, graft) -> None:
    words = [*finished.words, "training.epochs=1", "--run-dir", "run", "--quiet"]
    assert graft("finetune", finished.data, *words).code == 0
    refused = graft("finetune", "--resume", "run")
    assert refused.code == 2
    assert "this run is finished" in refused.err
    assert "--extend-epochs N trains it further" in refused.err
    less = graft("finetune", "--resume", "run", "--extend-epochs", "0.5")
    assert less.code == 2
    assert "is 2 steps, not more than the 4 this run already has" in less.err
    extended = graft("finetune", "--resume", "run", "--extend-epochs", "3")
    assert extended.code == 0, extended.err
    assert Run.open("run").record["steps"] == 12
    assert Run.open("run").recipe.training.epochs == 3


def test_the_data_gone_is_said_on_resume(finished: Made, place: Path, graft) -> None:
    write_csv(place / "data.csv", classified_rows(40))
    words = [*finished.words, "training.epochs=1", "--run-dir", "run", "--quiet"]
    assert graft("finetune", "data.csv", *words).code == 0
    (place / "data.csv").unlink()
    outcome = graft("finetune", "--resume", "run", "--extend-epochs", "2")
    assert outcome.code == 2
    assert "the data 'data.csv' is not there" in outcome.err
    assert f"resume from the folder where the run was started: {place}" in outcome.err


def test_a_full_disk_is_an_environment_error(
    finished: Made, place: Path, graft, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graftlm import rundir

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir.os, "replace", full)
    outcome = graft("finetune", finished.data, *finished.words, "--run-dir", "run")
    assert outcome.code == 3
    assert "No space left on device" in outcome.err
    assert "free disk space" in outcome.err
