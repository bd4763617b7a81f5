"""Too little memory is an error with a place and a remedy, wherever it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.rows import classified_rows
from tests.training.networks import network, plan, random_examples, train
from torch import nn

from graftlm.errors import MissingResource
from graftlm.recipe import load_recipe
from graftlm.rundir import RunDirectory
from graftlm.training.evaluation import predict_outputs
from graftlm.training.memory import memory_for, place
from graftlm.workflows.finetune import finetune


def _exhaust(model: nn.Module, call: int) -> None:
    """Let the forward pass fail at a call (1-based), as CUDA does."""
    calls = iter(range(1, 1_000_000))

    def fail(*_: Any) -> None:
        if next(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    model.register_forward_pre_hook(fail)


def test_training_names_the_step_and_the_micro_batch(seed: int) -> None:
    model, examples = network(seed), random_examples(seed, count=16)
    _exhaust(model, 4)  # two micro-batches a step: the second of the second step
    with pytest.raises(MissingResource) as caught:
        train(model, examples, plan(micro_batch=8))
    error = caught.value
    assert error.exit_code == 3
    assert error.where.startswith("step 2, micro-batch of 8 x ")
    assert int(error.where.split(" x ")[1].removesuffix(" tokens")) <= examples.lengths.max()
    assert "CUDA out of memory. Tried to allocate 20.00 GiB" in error.what
    for key in ("training.micro_batch", "task.max_length_tokens"):
        assert key in error.fix


def test_prediction_names_the_batch(seed: int) -> None:
    model, examples = network(seed), random_examples(seed)
    _exhaust(model, 1)
    with pytest.raises(MissingResource) as caught:
        predict_outputs(model, examples, 7 * int(examples.lengths.max()), torch.device("cpu"))
    assert caught.value.where == f"prediction, batch of 7 x {examples.lengths.max()} tokens"
    assert "evaluation.batch_tokens" in caught.value.fix


def test_the_allocator_of_the_cpu_and_of_numpy_are_understood() -> None:
    """The real ones: no machine has 256 TiB."""
    for allocate in (lambda: torch.empty(2**46), lambda: np.empty(2**46)):
        expected = pytest.raises(MissingResource, match="here: there is not enough memory")
        with expected as caught, memory_for("here", "less"):
            allocate()
        assert caught.value.fix == "less"


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes") as caught, memory_for("here", "less"):
        torch.zeros(2) @ torch.zeros(3, 3)
    assert not isinstance(caught.value, MissingResource)


def test_a_model_that_does_not_fit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(nn.Module, "to", fail)
    with pytest.raises(MissingResource, match="moving the model to cpu") as caught:
        place(network(seed), torch.device("cpu"))
    assert "smaller base model" in caught.value.fix


def test_a_run_records_it(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(BertForSequenceClassification, "forward", fail)
    recipe = load_recipe(None, {"base": str(tiny_bert), "training.device": "cpu", "training.batch_size": 4})
    with pytest.raises(MissingResource, match="step 1, micro-batch of 4 x"):
        finetune(recipe, classified_rows(40), tmp_path / "run")
    record = RunDirectory(tmp_path / "run").read_record()
    assert record["state"] == "failed"
    assert record["problem"].startswith("MissingResource: there is not enough memory")
