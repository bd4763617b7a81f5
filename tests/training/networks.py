"""Tiny networks and random examples for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from torch import nn

from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.strategies.full import Full
from graftlm.training.batching import Examples
from graftlm.training.checkpoint import newest_checkpoint, save_checkpoint
from graftlm.training.loop import Plan, Step, fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.order import Epochs

VOCABULARY, LABELS = 60, 3


PROBLEMS = {
    "labels": "single_label_classification",
    "label_sets": "multi_label_classification",
    "numbers": "regression",
}


def network(seed: int, dropout: float = 0.0, family: str = "bert", kind: str = "labels") -> nn.Module:
    """A two-layer classifier with random weights; the caller's generator is left alone."""
    common = {
        "vocab_size": VOCABULARY, "num_labels": 1 if kind == "numbers" else LABELS, "pad_token_id": 0,
        "problem_type": PROBLEMS[kind],
    }  # fmt: skip
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if family in ("bert", "electra", "roberta"):
        kind = {"bert": "Bert", "electra": "Electra", "roberta": "Roberta"}[family]
        config = getattr(transformers, f"{kind}Config")(
            **common, **small, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
        )
    else:
        kind = "DistilBert"
        config = transformers.DistilBertConfig(
            **common, dim=32, n_layers=2, n_heads=2, hidden_dim=64, dropout=dropout, attention_dropout=dropout,
            seq_classif_dropout=dropout,
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{kind}ForSequenceClassification")(config)


def random_examples(seed: int, count: int = 41, longest: int = 20, kind: str = "labels") -> Examples:
    """Random token ids of uneven lengths with random targets of a kind, every label present."""
    random = np.random.default_rng(seed)
    ids = [random.integers(1, VOCABULARY, size=random.integers(3, longest)).tolist() for _ in range(count)]
    targets = np.concatenate([np.arange(LABELS), random.integers(0, LABELS, size=count - LABELS)])
    match kind:
        case "label_sets":
            given = random.integers(0, 2, size=(count, LABELS)).astype(np.float32)
        case "numbers":
            given = random.normal(size=count).astype(np.float32)
        case _:
            given = targets.astype(np.int64)
    return Examples({"input_ids": ids}, given, {"input_ids": 0})


def plan(**changes: object) -> Plan:
    values = {
        "total_steps": 6, "batch_size": 16, "micro_batch": None, "order": "shuffled", "seed": 3, "warmup_share": 0.2,
        "schedule": "linear", "max_gradient_norm": 1.0,
    } | changes  # fmt: skip
    order = Epochs(values.pop("batch_size"), values.pop("order"), values["seed"])  # pyright: ignore
    return Plan(order=order, **values)  # pyright: ignore


def train(
    model: nn.Module,
    examples: Examples,
    steps: Plan,
    start: int = 0,
    optimizer: torch.optim.AdamW | None = None,
    objective: Any = None,
    learning_rate: float = 1e-3,
) -> list[Step]:
    """Run the real loop with the real objective and optimiser."""
    optimizer = optimizer or build_optimizer(model, Full().parameter_groups(model), learning_rate, 0.01)
    loss = (objective or CrossEntropy()).bind(examples.targets, [str(label) for label in range(LABELS)])
    return list(fit(model, examples, loss, optimizer, steps, Accelerator(cpu=True), start))


def distance(one: nn.Module, other: nn.Module) -> float:
    """Relative L2 distance of all weights together."""
    first = torch.cat([parameter.detach().double().flatten() for parameter in one.parameters()])
    second = torch.cat([parameter.detach().double().flatten() for parameter in other.parameters()])
    return float((first - second).norm() / first.norm())


def equal_bits(one: nn.Module, other: nn.Module) -> bool:
    """Whether every weight of two models is the same, bit for bit."""
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]] = list(
        zip(one.parameters(), other.parameters(), strict=True)
    )
    return all(torch.equal(left, right) for left, right in pairs)


def check_resume(build: Callable[[nn.Module], Any], seed: int, stop: int, folder: Path) -> None:
    """Let six steps with dropout be interrupted after some, and go on through a checkpoint: not a bit differs.

    Args:
        build: a network -> its optimiser.
        seed: of network and rows.
        stop: steps before the interruption.
        folder: where the checkpoint is written.
    """
    examples, steps = random_examples(seed), plan(total_steps=6)
    whole, first, second = (
        network(seed, dropout=0.2),
        network(seed, dropout=0.2),
        network(seed + 1, dropout=0.2),
    )
    optimizers = [build(model) for model in (whole, first, second)]
    losses = [step.loss for step in train(whole, examples, steps, optimizer=optimizers[0])]  # pyright: ignore
    loss = CrossEntropy().bind(examples.targets, ["0", "1", "2"])
    before = fit(first, examples, loss, optimizers[1], steps, Accelerator(cpu=True))
    parts = [step.loss for step in islice(before, stop)]
    save_checkpoint(folder, stop, first, optimizers[1], None, {})
    found = newest_checkpoint(folder, pytest.fail)
    assert found is not None
    found.restore(second, optimizers[2])
    parts += [
        step.loss
        for step in train(second, examples, steps, start=stop, optimizer=optimizers[2])  # pyright: ignore
    ]
    assert parts == losses
    assert equal_bits(whole, second)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        states = optimizers[0].state[one], optimizers[2].state[other]
        assert states[0].keys() == states[1].keys() and states[0]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
