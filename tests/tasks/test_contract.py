"""What every task must keep, with every strategy: the contract of `graftlm.tasks._task`.

A new task needs an entry in `SAMPLES`: rows that a tiny model can learn by heart.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.rows import classified_rows

from graftlm.catalog import Catalog
from graftlm.data.assembling import assemble
from graftlm.data.dataset import Split
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.errors import DataError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.recipe import load_recipe
from graftlm.workflows.finetune import finetune

TASKS = Catalog("tasks").names()
STRATEGIES = Catalog("strategies").names()
SAMPLES = {"text_classification": classified_rows}
UNSEEN = {"text_classification": {"text": "the train", "label": "never heard of"}}


def rows_of(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    return SAMPLES[name](count, seed=seed)


def split_of(name: str, rows: list[dict[str, Any]]) -> Split:
    task = Catalog("tasks").get(name)()
    options = DataOptions(validation_share=0.0, test_share=0.0)
    return assemble(read_tables(rows, options), task.roles, options, 0).splits["train"]  # pyright: ignore


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> TextEncoder:
    return TextEncoder(load_tokenizer(locate(str(tiny_bert))), 24)


def test_every_task_has_a_sample() -> None:
    assert set(SAMPLES) == set(UNSEEN) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_certain_logits_decode_to_the_labels_they_were_made_from(name: str, encoder: TextEncoder) -> None:
    task: Any = Catalog("tasks").get(name)()
    split = split_of(name, rows_of(name, 20))
    labels = task.label_names(split)
    assert list(labels) == sorted(set(labels))
    options = task.model_options(labels)
    assert [options["id2label"][index] for index in range(options["num_labels"])] == list(labels)
    targets = task.targets(split, labels)
    logits = np.full((len(split), len(labels)), -20.0, dtype=np.float32)
    logits[np.arange(len(split)), targets] = 20.0
    decoded = task.decode(logits, labels)
    assert [prediction.label for prediction in decoded] == split.columns["label"]
    assert task.score(logits, targets, labels, resamples=100).headline.value == 1.0
    json.dumps([task.record(prediction) for prediction in decoded], allow_nan=False)
    baseline = task.baseline(split, split, labels)
    assert baseline.shape == logits.shape
    assert len(task.encode(split, encoder)) == len(split)


@pytest.mark.parametrize("name", TASKS)
def test_none_one_and_too_long(name: str, encoder: TextEncoder) -> None:
    task: Any = Catalog("tasks").get(name)()
    split = split_of(name, rows_of(name, 4))
    labels = task.label_names(split)
    empty = split.take([])
    assert len(task.encode(empty, encoder)) == 0
    assert len(task.decode(np.zeros((0, len(labels)), dtype=np.float32), labels)) == 0
    assert len(task.targets(empty, labels)) == 0
    assert len(task.encode(split.take([2]), encoder)) == 1
    split.columns["text"][1] = "train " * 500
    features = task.encode(split, encoder)
    assert features.truncated_rows == [1]
    assert len(features.inputs["input_ids"][1]) == 24


@pytest.mark.parametrize("name", TASKS)
def test_a_label_unseen_in_training_is_refused(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = load_recipe(None, {"base": str(tiny_bert), "task.name": name})
    rows = rows_of(name, 12)
    data = {"train": rows[:8], "validation": rows[8:], "test": [*rows[8:], UNSEEN[name]]}
    with pytest.raises(DataError, match="'never heard of'") as caught:
        finetune(recipe, data, tmp_path / "run")
    assert "test" in str(caught.value)


@pytest.mark.parametrize(("name", "strategy"), list(itertools.product(TASKS, STRATEGIES)))
def test_eight_rows_are_learnt_by_heart_and_survive_the_file(
    name: str, strategy: str, tiny_bert: Path, tmp_path: Path
) -> None:
    rows = rows_of(name, 8)
    changes = {
        "base": str(tiny_bert), "task.name": name, "strategy.name": strategy, "evaluation.proof": "none",
        "data.validation_share": 0.0, "data.test_share": 0.0, "training.epochs": 100, "training.batch_size": 8,
        "training.learning_rate": 1e-2, "training.dropout": 0.0,
    }  # fmt: skip
    run = finetune(load_recipe(None, changes), rows, tmp_path / "run")
    steps = [json.loads(line) for line in run.directory.steps.read_text().splitlines()]
    assert steps[-1]["loss"] < 0.05
    assert run.headline_split is None
    predicted = run.predictor("cpu")([row["text"] for row in rows])
    assert [prediction.label for prediction in predicted] == [row["label"] for row in rows]


@pytest.mark.parametrize(("name", "strategy"), list(itertools.product(TASKS, STRATEGIES)))
def test_two_steps_are_the_same_in_any_micro_batch(
    name: str, strategy: str, tiny_bert: Path, tmp_path: Path
) -> None:
    logged: list[list[dict[str, float]]] = []
    for micro_batch in (8, 3, 1):
        changes = {
            "base": str(tiny_bert), "task.name": name, "strategy.name": strategy, "evaluation.proof": "none",
            "data.validation_share": 0.0, "data.test_share": 0.0, "training.epochs": 1, "training.batch_size": 8,
            "training.micro_batch": micro_batch, "training.dropout": 0.0,
        }  # fmt: skip
        run = finetune(load_recipe(None, changes), rows_of(name, 15), tmp_path / str(micro_batch))
        logged.append([json.loads(line) for line in run.directory.steps.read_text().splitlines()])
    assert len(logged[0]) == 2
    for other in logged[1:]:
        for one, two in zip(logged[0], other, strict=True):
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
            assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-6)
