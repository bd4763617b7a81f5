"""A benchmark from its name to its scores, on tiny files in the official layout."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from tests.cli.conftest import Made
from tests.rows import classified_rows

LABELS = ("entailment", "neutral", "contradiction")
COLUMNS = ("index", "sentence1", "sentence2", "gold_label")


def write_mnli(file: str, count: int, seed: int) -> None:
    rows = classified_rows(count, LABELS, seed)
    lines = [f"{i}\tthe day {seed}\t{row['text']}\t{row['label']}" for i, row in enumerate(rows)]
    Path(file).write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n")


def test_both_halves_of_mnli(finished: Made, place: Path, graft) -> None:
    write_mnli("train.tsv", 90, 1)
    write_mnli("dev_matched.tsv", 12, 2)
    write_mnli("dev_mismatched.tsv", 15, 3)
    outcome = graft("check", "glue:mnli=.", "--json")
    assert outcome.json()["rows"] == {"train": 81, "validation": 9, "test": 12}
    outcome = graft(
        "finetune", "glue:mnli=.", *finished.words, "training.epochs=2", "--run-dir", "run", "--json"
    )
    assert outcome.code == 0, outcome.err
    scores = outcome.json()["evaluation"]["scores"]
    assert (outcome.json()["headline"], scores["rows"], scores["primary"]) == ("test", 12, "accuracy")
    outcome = graft("evaluate", "run", "glue:mnli_mismatched=.", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json()["rows"] == 15
    card = Path("run/model/README.md").read_text()
    assert "Official metrics of glue:mnli: accuracy." in card
    (entry,) = yaml.safe_load(card.split("---\n")[1])["model-index"]
    assert entry["results"][0]["dataset"] == {"name": "glue:mnli=.", "type": "custom", "split": "test"}
    assert json.loads(Path("run/run.json").read_text())["data"]["origin"] == "glue:mnli=., 102 rows"


def test_the_run_is_called_by_the_benchmark(finished: Made, place: Path, graft) -> None:
    write_mnli("train.tsv", 40, 1)
    write_mnli("dev_matched.tsv", 12, 2)
    assert (
        graft("finetune", f"glue:mnli={place}", *finished.words, "training.epochs=0.3", "--quiet").code == 0
    )
    assert next(Path("runs").iterdir()).name.startswith("glue-mnli-")


def test_a_benchmark_in_a_recipe(finished: Made, place: Path, graft) -> None:
    write_mnli("train.tsv", 40, 1)
    write_mnli("dev_matched.tsv", 12, 2)
    outcome = graft("new", "data.path=glue:mnli=.", "--output", "recipe.yaml")
    assert outcome.code == 0, outcome.err
    outcome = graft("new", "glue:mnli=.", "--output", "complete.yaml")
    assert outcome.code == 0, outcome.err
    for recipe in ("recipe.yaml", "complete.yaml"):
        outcome = graft("check", recipe, "--json")
        assert outcome.json()["rows"] == {"train": 36, "validation": 4, "test": 12}, outcome.err
