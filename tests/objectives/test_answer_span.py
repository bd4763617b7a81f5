"""The loss of answers: that of transformers where nothing is padded, and the same beside longer examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from graftlm.objectives.answer_span import AnswerSpan
from graftlm.training.batching import Examples
from graftlm.training.outputs import forward

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tiny_bert: Path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForQuestionAnswering.from_pretrained(tiny_bert).eval()


def examples_of(random: np.random.Generator, lengths: list[int], side: str = "right") -> Examples:
    inputs = {"input_ids": [random.integers(5, 100, length).tolist() for length in lengths]}
    targets = np.array([random.integers(0, length, 2) for length in lengths])
    return Examples(inputs, targets, {"input_ids": 0}, side)


def loss_of(model, examples: Examples, rows: list[int]):
    batch = examples.batch(np.array(rows), CPU)
    loss = AnswerSpan().bind(np.zeros((0, 2), dtype=np.int64), ())
    weights = loss.weights(batch.targets)
    terms = loss.terms(forward(model, batch, None), batch.targets)
    return sum(term.coefficient * term.total / weights[term.name] for term in terms)


def test_equal_lengths_give_the_loss_and_gradient_of_transformers(model, seed):
    random = np.random.default_rng(seed)
    for _ in range(5):
        examples = examples_of(random, [int(random.integers(3, 40))] * 6)
        batch = examples.batch(np.arange(6), CPU)
        starts, ends = batch.targets.unbind(1)
        gradients = []
        stock = model(**batch.inputs, start_positions=starts, end_positions=ends).loss
        for value in (stock, loss_of(model, examples, list(range(6)))):
            assert value.item() == pytest.approx(stock.item(), rel=1e-6)
            model.zero_grad()
            value.backward()
            gradients.append(
                torch.cat([each.grad.ravel() for each in model.parameters() if each.grad is not None])
            )
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(model, side, seed):
    random = np.random.default_rng(seed)
    examples = examples_of(random, [5, 40, 17], side)
    alone = [loss_of(model, examples, [row]).item() for row in range(3)]
    if side == "right":  # BERT numbers positions from the left, so padding there changes its outputs
        assert loss_of(model, examples, [0, 1, 2]).item() == pytest.approx(np.mean(alone), rel=1e-5)
    batch = examples.batch(np.arange(3), CPU)
    outputs = forward(model, batch, None)
    real = batch.inputs["attention_mask"].bool()
    assert torch.isfinite(outputs[real]).all() and torch.isneginf(outputs[~real]).all()
    logits = [each[mask] for each, mask in zip(outputs, real, strict=True)]
    wanted = [
        torch.nn.functional.cross_entropy(each.T, torch.from_numpy(target))
        for each, target in zip(logits, examples.targets, strict=True)
    ]
    assert loss_of(model, examples, [0, 1, 2]).item() == pytest.approx(
        np.mean([x.item() for x in wanted]), rel=1e-5
    )
