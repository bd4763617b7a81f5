"""Fifty steps without padding, with kernels and our AdamW, beside fifty of a plain loop of torch on padded batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.models.families import DECODERS, ENCODERS, VOCABULARY, build, heads_of, lay_flat
from tests.training.networks import distance, network, plan, random_examples, train
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from graftlm.data.features import IGNORED
from graftlm.objectives.answer_span import AnswerSpan
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.strategies.full import Full
from graftlm.training.batching import Batch, Examples
from graftlm.training.loop import fit
from graftlm.training.optimisation import build_optimizer, learning_rate_factor

STEPS, ROWS, BATCH, RATE, DECAY, WARMUP = 50, 96, 8, 1e-3, 0.01, 0.1
# With the usual 1e-8 an entry whose gradient happens to be as small takes a step made of its rounding.
EPSILON = 1e-6
FEWER = {"Bert", "ModernBert", "GPT2", "Bart"}
CASES = [
    pytest.param(family, head, marks=() if head == "SequenceClassification" or family in FEWER else pytest.mark.slow)
    for family in (*ENCODERS, *DECODERS, "Bart", "Marian")
    for head in heads_of(family)
]  # fmt: skip


def _examples(seed: int, head: str, padding: int) -> Examples:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 24, size=ROWS)
    ids = [random.integers(3, VOCABULARY, size=length).tolist() for length in lengths]
    written = head in ("MaskedLM", "CausalLM", "Seq2SeqLM")
    targets: Any
    match head:
        case "SequenceClassification":
            targets = random.integers(0, 3, size=ROWS)
        case "QuestionAnswering":
            start = (random.random(ROWS) * lengths).astype(np.int64)
            targets = np.stack([start, np.minimum(start + 1, lengths - 1)], axis=1)
        case "Seq2SeqLM":
            targets = [random.integers(3, VOCABULARY, size=random.integers(1, 12)) for _ in ids]
        case _:
            labels = VOCABULARY if written else 3
            targets = [
                np.where(random.random(len(each)) < 0.4, IGNORED, random.integers(0, labels, len(each)))
                for each in ids
            ]
            for each in targets:
                each[1] = 1
    return Examples({"input_ids": ids}, targets, {"input_ids": padding}, written=written)  # fmt: skip


def _loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The mean over the items of a padded batch, as any script would compute it."""
    targets = batch.targets
    assert targets is not None
    if model.config.is_encoder_decoder:
        return model(**batch.inputs, labels=targets).loss
    outputs = model(**batch.inputs)
    if "start_logits" in outputs:
        padding = batch.inputs["attention_mask"] == 0
        ends = (outputs[f"{end}_logits"].masked_fill(padding, -torch.inf) for end in ("start", "end"))
        losses = [functional.cross_entropy(*pair) for pair in zip(ends, targets.unbind(1), strict=True)]
        return sum(losses, start=torch.zeros(())) / 2
    return functional.cross_entropy(outputs.logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def _plain_losses(model: PreTrainedModel, examples: Examples, order: Any) -> list[float]:
    groups, named = Full().parameter_groups(model), dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [named[name] for name in group.names], "weight_decay": DECAY if group.decayed else 0.0}
            for group in groups
        ],
        lr=RATE,
        eps=EPSILON,
    )
    model.train()
    losses: list[float] = []
    due = order.steps(examples, 0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * learning_rate_factor(step, STEPS, WARMUP, "linear")
        optimizer.zero_grad()
        loss = _loss(model, examples.batch(next(due).rows, torch.device("cpu")))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def _without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Some heads drop though no key of their configuration says so."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize(("family", "head"), CASES)
def test_fifty_steps_without_padding_equal_fifty_with_it(seed: int, family: str, head: str) -> None:
    """Dropout 0, the same batches: losses within 1e-6 relative, all weights together within 1e-5."""
    ours, plain = (_without_dropout(build(family, head, seed)) for _ in range(2))
    examples = _examples(seed, head, ours.config.pad_token_id or 0)
    lay_flat(ours)
    steps = plan(total_steps=STEPS, batch_size=BATCH, warmup_share=WARMUP)
    groups = Full().parameter_groups(ours)
    optimizer = build_optimizer(ours, groups, RATE, DECAY, epsilon=EPSILON)
    objective = AnswerSpan() if head == "QuestionAnswering" else CrossEntropy()
    assert examples.targets is not None
    loss = objective.bind(examples.targets, [str(label) for label in range(3)])
    found = [step.loss for step in fit(ours, examples, loss, optimizer, steps, Accelerator(cpu=True))]
    np.testing.assert_allclose(found, _plain_losses(plain, examples, steps.order), rtol=1e-6)
    assert distance(plain, ours) <= 1e-5


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_with_dropout_any_micro_batches_give_the_same_steps(seed: int, family: str) -> None:
    """Without padding what is dropped depends on the example: losses and norms within 1e-6 of one pass."""
    examples = random_examples(seed)
    whole, *parts = (_six_steps(seed, family, examples, micro_batch) for micro_batch in (16, 5, 1))
    for each in parts:
        np.testing.assert_allclose(each, whole, rtol=1e-6)


def _six_steps(seed: int, family: str, examples: Examples, micro_batch: int) -> list[list[float]]:
    model = network(seed, dropout=0.1, family=family)
    assert isinstance(model, PreTrainedModel)
    lay_flat(model)
    records = train(model, examples, plan(micro_batch=micro_batch))
    return [[step.loss, step.gradient_norm] for step in records]
