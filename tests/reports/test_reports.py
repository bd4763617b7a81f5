from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.rows import classified_rows

from graftlm.cli.results import print_scores
from graftlm.recipe import load_recipe
from graftlm.reports.display import Display
from graftlm.reports.figures import confusions, headline_sentence, label_table
from graftlm.reports.model_card import render_model_card
from graftlm.reports.run_report import render_report
from graftlm.run import Run
from graftlm.scoring.scores import Scores
from graftlm.workflows.finetune import finetune

ROWS = classified_rows(80, ("a|b", "no", "[red]", "joy"))

# Runs where the model lies in path/to/model; graftlm cannot be imported there.
PLAIN = """
import builtins, json, sys
from pathlib import Path
real = builtins.__import__
def guarded(name, *rest, **options):
    assert not name.startswith("graftlm"), "the artefact needs graftlm"
    return real(name, *rest, **options)
builtins.__import__ = guarded
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import torch
texts = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained("path/to/model")
model = AutoModelForSequenceClassification.from_pretrained("path/to/model").eval()
limit = json.loads(Path("path/to/model/graftlm.json").read_text())["max_length_tokens"]
def logits_of(text):
    batch = tokenizer([text], truncation=True, max_length=limit, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits[0].tolist()
logits = [logits_of(text) for text in texts]
assert not any(name.partition(".")[0] == "graftlm" for name in sys.modules)
labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
print(json.dumps({"labels": labels, "logits": logits}))
exec(Path("snippet.py").read_text())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    changes = {
        "base": str(tiny_bert), "training.epochs": 4, "training.learning_rate": 5e-3, "training.device": "cpu",
        "evaluation.proof": "none", "evaluation.resamples": 100, "task.max_length_tokens": 16,
    }  # fmt: skip
    return finetune(load_recipe(None, changes), ROWS, tmp_path_factory.mktemp("reports") / "run")


@pytest.fixture(scope="module")
def card(run: Run) -> str:
    return (run.directory.model / "README.md").read_text()


def test_plain_transformers_gives_the_recorded_numbers_and_the_snippet_runs(
    run: Run, card: str, tmp_path: Path
) -> None:
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(run.directory.model)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (tmp_path / "snippet.py").write_text(snippet)
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    texts = [ROWS[int(line["row"].rsplit(" ", 1)[1]) - 1]["text"] for line in lines]
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAIN],
        input=json.dumps([*texts, "your text"]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        check=False,
    )
    assert child.returncode == 0, child.stderr
    answer, printed = child.stdout.splitlines()
    logits = np.array(json.loads(answer)["logits"])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert json.loads(answer)["labels"] == list(lines[0]["scores"])
    np.testing.assert_allclose(
        probabilities[:-1], [list(line["scores"].values()) for line in lines], atol=1e-5
    )
    (ours,) = run.predictor("cpu")(["your text"])
    label, score = printed.rsplit(" ", 1)
    assert label == ours.label
    assert float(score) == pytest.approx(ours.score, abs=1e-5)


def test_front_matter_has_what_hubs_read(run: Run, card: str) -> None:
    _, matter, body = card.split("---\n", 2)
    values = yaml.safe_load(matter)
    assert values["library_name"] == "transformers"
    assert values["pipeline_tag"] == "text-classification"
    assert "graftlm" in values["tags"]
    assert "base_model" not in values  # a folder of this machine is no model on a hub
    (entry,) = values["model-index"]
    (result,) = entry["results"]
    assert entry["name"]
    assert result["task"]["type"] == "text-classification"
    assert {"name", "type", "split"} <= set(result["dataset"])
    assert result["metrics"] == [{"type": "accuracy", "value": round(run.metrics["accuracy"], 4)}]
    assert body.lstrip().startswith("# Text classification: 4 labels")


SHA = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
OWN = {"name": "own rows", "type": "custom", "split": "test"}
RTE = {"name": "glue:rte", "type": "nyu-mll/glue", "config": "rte", "split": "validation"}


@pytest.mark.parametrize(
    ("address", "origin", "test", "expected"),
    [
        ("glue:rte", f"glue:rte, commit {SHA}, 2,767 rows", None, {**RTE, "revision": SHA}),
        ("glue:rte", "glue:rte, 2,767 rows", None, RTE),
        ("glue:rte@abc", "glue:rte@abc, 2,767 rows", None, {**RTE, "revision": "abc"}),
        (
            "squad:v2", f"squad:v2, commit {SHA}, 9 rows", None,
            {"name": "squad:v2", "type": "rajpurkar/squad_v2", "split": "validation", "revision": SHA},
        ),
        ("glue:rte=RTE", "glue:rte=RTE, 2,767 rows", None, {**OWN, "name": "glue:rte=RTE"}),
        ("glue:rte", "glue:rte, 2,767 rows, test from own.csv", "own.csv", OWN),
        ("glue:rte", "list of dicts, 9 rows", None, OWN),  # rows in memory went before the path
        ("hub:org/name", "hub:org/name, 9 rows", None, OWN),
        ("reviews.csv", "reviews.csv, 9 rows", None, OWN),
    ],
)  # fmt: skip
def test_benchmarks_are_named_and_other_rows_are_not(
    run: Run, address: str, origin: str, test: str | None, expected: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    copy = Run.open(tmp_path / "run").directory
    recipe = yaml.safe_load(copy.recipe.read_text())
    recipe["data"] |= {"path": address, "test": test}
    copy.recipe.write_text(yaml.safe_dump(recipe))
    copy.update_record(data={**copy.read_record()["data"], "origin": origin})
    (entry,) = yaml.safe_load(render_model_card(copy).split("---\n")[1])["model-index"]
    assert entry["results"][0]["dataset"] == expected


def test_a_hub_model_is_named_as_the_base(run: Run) -> None:
    facts_file = run.directory.model / "graftlm.json"
    before = facts_file.read_text()
    facts = json.loads(before)
    facts["base"] = {"name": "org/name", "revision": "abc", "fingerprint": "x"}
    try:
        facts_file.write_text(json.dumps(facts))
        matter = yaml.safe_load(render_model_card(run.directory).split("---\n")[1])
    finally:
        facts_file.write_text(before)
    assert matter["base_model"] == "org/name"


def test_card_and_report_are_made_from_the_directory_alone(run: Run, card: str) -> None:
    assert render_model_card(run.directory) == card
    assert render_report(run.directory) == run.report()
    for text in (card, run.report()):
        assert headline_sentence(run.evaluation("test")) in text
        assert "None" not in text
        assert "nan" not in text
    assert "- it reads at most 16 tokens at once" in card
    assert "With GraftLM: `graft predict" in card


def test_the_report_says_when_nothing_was_proved(run: Run) -> None:
    assert "The saved model was NOT proved" in run.report()
    run_record = run.record
    shown = run.report()
    for name, count in run_record["data"]["rows"].items():
        assert f"{name} {count}" in shown
    for sentence in run_record["data"]["decisions"]:
        assert sentence in shown


def test_tables_have_equal_columns_whatever_the_labels(run: Run) -> None:
    for text in (run.report(), (run.directory.model / "README.md").read_text()):
        for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
            assert len(widths) == 1, table
    assert "a\\|b" in label_table(run.evaluation("test"))


def evaluation(confusion: list[list[int]]) -> dict[str, Any]:
    scores = {
        "values": {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}},
        "primary": "accuracy", "greater_is_better": True, "rows": 4, "confidence": 0.95, "resamples": 100,
        "labels": ["a", "b"], "confusion": confusion,
    }  # fmt: skip
    return {
        "split": "validation",
        "selected": True,
        "scores": scores,
        "baseline": {"name": "always a", "scores": scores},
    }


def test_headline_says_interval_baseline_and_selection() -> None:
    sentence = headline_sentence(evaluation([[2, 1], [0, 1]]))
    assert sentence.startswith(
        "accuracy 0.750 [0.500, 1.000] on 4 rows of validation, 95% interval; always a gives 0.750"
    )
    assert "selected: these rows also chose the weights or a threshold" in sentence
    assert "selected" not in headline_sentence({**evaluation([[1, 0], [0, 1]]), "selected": False})


def test_where_all_rows_are_right_the_headline_says_what_they_leave_open() -> None:
    """The interval has no width then. With at most 7.58 % wrong, 38 of 38 right have a probability of 5 % or more."""
    perfect = {"value": 1.0, "low": 1.0, "high": 1.0}
    right = {**evaluation([[20, 0], [0, 18]]), "selected": False}
    right["scores"] = {**right["scores"], "values": {"accuracy": perfect}, "rows": 38}
    assert headline_sentence(right).endswith(
        "; no interval can be drawn from 38 rows without a mistake: of further rows up to 7.58% may be wrong, if rows "
        "are independent (95% confidence)"
    )
    assert "further rows" not in headline_sentence({**right, "selected": True})
    for changes in (
        {"values": {"accuracy": {**perfect, "low": 0.99}}},
        {"values": {"recall_micro": perfect}, "primary": "recall_micro"},
        {"values": {"f1_answerable": perfect}, "primary": "f1_answerable"},
        {"rows_in_training": 2},
    ):
        scores = {**right["scores"], **changes}
        changed = {**right, "scores": scores, "baseline": {"name": "always a", "scores": scores}}
        assert "further rows" not in headline_sentence(changed)


def test_the_terminal_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    perfect = {"value": 1.0, "low": 1.0, "high": 1.0}
    scores = {**evaluation([[20, 0], [0, 18]])["scores"], "values": {"accuracy": perfect}, "rows": 38}
    print_scores(Scores.load(scores), "rows.csv")
    assert "of further rows up to 7.58% may be wrong" in capsys.readouterr().out
    print_scores(Scores.load({**scores, "rows_in_training": 1}), "rows.csv")
    assert "further rows" not in capsys.readouterr().out


def test_confusions_are_listed_most_frequent_first() -> None:
    assert confusions(evaluation([[2, 0], [0, 1]])) == "No mistakes on these rows."
    assert confusions(evaluation([[2, 1], [3, 1]])).splitlines()[2:] == ["| b | a | 3 |", "| a | b | 1 |"]


def test_without_a_terminal_progress_is_plain_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftlm.reports.display._QUIET_SECONDS", 0.0)
    with Display() as display:
        display.stage("training")
        display.say("from [red] a.csv:100: on")
        display.warn("careful")
        display.advance(3, 10, loss=0.5, epoch=1.25, best=0.75, tokens_per_second=1234.5)
        display.advance(4, 10, rows_per_second=20500.4)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training …",
        "  from [red] a.csv:100: on",
        "  warning: careful",
        "  training: 3 of 10  loss 0.500  epoch 1.2  best 0.750  1,234 tokens/s",
        "  training: 4 of 10  20,500 rows/s",
    ]


@pytest.mark.parametrize("width", [80, 130])
def test_on_a_terminal_the_time_left_and_the_figures_are_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TERM", "xterm"), ("FORCE_COLOR", "1"), ("COLUMNS", str(width))):
        monkeypatch.setenv(name, value)
    display, told = Display(), io.StringIO()
    display.console.file = told
    with display:
        display.stage("training")
        for done in (7_000, 12_345):
            display.advance(done, 15_384, loss=4.0564, epoch=0.31, tokens_per_second=11_301.2)
        assert display._bar is not None  # pyright: ignore[reportPrivateUsage]
        display._bar.refresh()  # pyright: ignore[reportPrivateUsage]
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.getvalue())
    last = [line for line in shown.splitlines() if "left" in line][-1]
    assert re.search(r"12345/15384 .*left [-0-9:]{7} loss 4\.056  epoch 0\.3  11,301 tokens/s", last), last
    assert ("━" in last) == (width > 100)
