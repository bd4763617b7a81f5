"""The loop: one step is one step, however it is cut, and its numbers are those of the stock Trainer."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.networks import distance, equal_bits, network, plan, random_examples, train
from tests.training.stock import stock_steps
from torch import nn
from torch.nn import functional

from graftlm.errors import Diverged
from graftlm.objectives.binary_cross_entropy import BinaryCrossEntropy
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.objectives.mean_squared_error import MeanSquaredError
from graftlm.strategies.full import Full
from graftlm.training.batching import epoch_batches
from graftlm.training.optimisation import build_optimizer
from graftlm.training.order import steps_per_epoch

FAMILIES = ("bert", "electra", "roberta", "distilbert")
OBJECTIVES = (CrossEntropy(), CrossEntropy(class_weights="balanced", label_smoothing=0.1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=["plain", "weighted"])
def test_micro_batches_change_nothing(seed: int, family: str, objective: CrossEntropy) -> None:
    """1 x 16 = 2 x 8 = 4 x 4 = 16 x 1 = uneven: losses and gradient norms to 1e-6 relative."""
    examples = random_examples(seed)
    runs = {
        size: train(network(seed, family=family), examples, plan(micro_batch=size), objective=objective)
        for size in (16, 8, 5, 4, 1)
    }
    for size, steps in runs.items():
        for whole, cut in zip(runs[16], steps, strict=True):
            assert cut.loss == pytest.approx(whole.loss, rel=1e-6), (size, whole.number)
            assert cut.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-6), (size, whole.number)


def test_a_mean_of_means_would_be_noticed(seed: int) -> None:
    """The test above can fail: dividing each micro-batch by its own weight gives another loss."""
    examples = random_examples(seed)
    loss = OBJECTIVES[1].bind(examples.targets, ["0", "1", "2"])
    random = torch.Generator().manual_seed(seed)
    targets = torch.from_numpy(examples.targets[:16])
    parts = [slice(0, 11), slice(11, 16)]

    def mistake(logits: torch.Tensor) -> float:
        means = [
            loss.terms(logits[p], targets[p])[0].total / loss.weights(targets[p])["cross_entropy"]
            for p in parts
        ]
        right = loss.terms(logits, targets)[0].total / loss.weights(targets)["cross_entropy"]
        return abs(float(sum(means)) / 2 - float(right))

    # Of several draws: one alone may hide it by chance.
    assert max(mistake(torch.randn(16, 3, generator=random)) for _ in range(10)) > 1e-3


def test_a_launchers_accumulation_count_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` exports it; going through accelerate's backward would divide every gradient by it."""
    examples = random_examples(seed)
    before = train(network(seed), examples, plan())
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    after = train(network(seed), examples, plan())
    assert [step.gradient_norm for step in after] == [step.gradient_norm for step in before]


def test_loss_is_the_mean_over_the_step(seed: int) -> None:
    examples, model = random_examples(seed), network(seed)
    rows = epoch_batches(examples.lengths, 16, "shuffled", 3, 0)[0]
    batch = examples.batch(rows, torch.device("cpu"))
    with torch.no_grad():
        expected = float(functional.cross_entropy(model(**batch.inputs).logits, batch.targets))
    assert train(model, examples, plan(total_steps=1))[0].loss == pytest.approx(expected, rel=1e-6)


def test_dropout_is_a_function_of_seed_and_step(seed: int) -> None:
    """Same seed, same bits, wherever the caller's generator stands; another seed, other bits."""
    examples = random_examples(seed)
    models = [network(seed, dropout=0.3) for _ in range(3)]
    torch.manual_seed(1)
    train(models[0], examples, plan())
    torch.manual_seed(2)
    before = torch.get_rng_state()
    train(models[1], examples, plan())
    assert torch.equal(before, torch.get_rng_state()), "the caller's generator was moved"
    assert equal_bits(models[0], models[1])
    train(models[2], examples, plan(seed=4))
    assert not equal_bits(models[0], models[2])


def test_dropout_masks_differ_between_steps_and_micro_batches(seed: int) -> None:
    model, examples = network(seed, dropout=0.5), random_examples(seed, count=3, longest=4)
    examples = type(examples)({"input_ids": [[5, 6, 7]] * 4}, np.array([0, 1, 2, 0]), {"input_ids": 0})
    seen: list[torch.Tensor] = []
    model.dropout.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    train(model, examples, plan(total_steps=3, batch_size=4, micro_batch=2), learning_rate=1e-12)
    masks = [(values == 0) for values in seen]
    assert len(masks) == 6
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(masks, 2))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_stops_at_the_first_value_that_is_not_finite(seed: int, broken: str) -> None:
    examples, model = random_examples(seed), network(seed)
    victim = next(iter(model.parameters()))
    steps_seen = 0

    def spoil(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal steps_seen
        steps_seen += 1
        if steps_seen == 3 and broken == "loss":
            output.logits = output.logits * math.nan

    model.register_forward_hook(spoil)
    if broken == "gradient":
        calls = itertools.count(1)
        victim.register_hook(lambda gradient: gradient * math.inf if next(calls) == 3 else gradient)
    optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
    rows = epoch_batches(examples.lengths, 16, "shuffled", 3, 0)[2]
    with pytest.raises(Diverged) as caught:
        train(model, examples, plan(), optimizer=optimizer)
    assert caught.value.exit_code == 4
    assert "step 3" in str(caught.value)
    assert caught.value.rows == sorted(rows.tolist()), "the rows of the step are named"
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters()), "no update was taken"


def test_every_row_once_an_epoch_and_the_last_batch_kept(seed: int) -> None:
    examples = random_examples(seed, count=41)
    steps = train(network(seed), examples, plan(total_steps=6))
    assert [step.examples for step in steps] == [16, 16, 9, 16, 16, 9]
    assert steps_per_epoch(41, 16) == 3
    assert steps[2].epoch == 1.0
    assert sum(step.tokens for step in steps[:3]) == int(examples.lengths.sum())


@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, "labels") for family in FAMILIES), ("bert", "label_sets"), ("roberta", "numbers")],
)
def test_fifty_steps_equal_the_stock_trainer(seed: int, family: str, kind: str, tmp_path: Path) -> None:
    """Same batches, dropout 0, accumulation 1: 50 losses equal to 1e-6 relative, weights close."""
    objective = {"labels": CrossEntropy, "label_sets": BinaryCrossEntropy, "numbers": MeanSquaredError}[
        kind
    ]()
    examples = random_examples(seed, count=120, kind=kind)
    ours, stock = (network(seed, family=family, kind=kind) for _ in range(2))
    steps = plan(total_steps=50, batch_size=8, micro_batch=8, warmup_share=0.1)
    batches = [
        batch.tolist()
        for epoch in range(4)
        for batch in epoch_batches(examples.lengths, 8, "shuffled", 3, epoch)
    ]
    records = train(ours, examples, steps, learning_rate=1e-3, objective=objective)
    losses, norms = stock_steps(stock, examples, batches, 1e-3, tmp_path)
    assert len(records) == len(losses) == 50
    for ours_step, loss, norm in zip(records, losses, norms, strict=True):
        assert ours_step.loss == pytest.approx(loss, rel=1e-6), ours_step.number
        assert ours_step.gradient_norm == pytest.approx(norm, rel=1e-5), ours_step.number
    assert distance(ours, stock) < 1e-5
