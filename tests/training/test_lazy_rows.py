"""Late rows of an embedding: for whoever looks, they were never late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from tests.training.compiled import assert_same, need_library, optimizer_of, same_bits
from tests.training.networks import LABELS, network, plan, random_examples, train
from torch import nn

from graftlm.errors import ConfigurationError, Diverged
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.training import lazy_rows
from graftlm.training.checkpoint import copy_weights, named_weights, newest_checkpoint, save_checkpoint
from graftlm.training.evaluation import predict_outputs
from graftlm.training.lazy_rows import lazy_embedding
from graftlm.training.loop import Step, fit


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the tiny vocabulary may be late."""
    need_library()
    monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 1)


def _fit(model: nn.Module, optimizer: Any, examples: Any, **changes: Any) -> Any:
    loss = CrossEntropy().bind(examples.targets, [str(label) for label in range(LABELS)])
    return fit(model, examples, loss, optimizer, plan(**changes), Accelerator(cpu=True))


def _numbers(steps: list[Step]) -> list[tuple[float, float]]:
    return [(step.loss, step.gradient_norm) for step in steps]


@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "distilbert"])
@pytest.mark.parametrize("micro_batch", [16, 5, 1])
def test_late_rows_change_no_bit_of_a_training(seed: int, family: str, micro_batch: int) -> None:
    """Losses, norms, weights and moments; clipping, weight decay, another rate at every step, dropout on."""
    # Short texts, so that most rows of the vocabulary are late most of the time.
    examples = random_examples(seed, count=20, longest=5)
    changes = {"total_steps": 25, "micro_batch": micro_batch, "batch_size": 3, "max_gradient_norm": 0.5}
    found = []
    for late in (False, True):
        model = network(seed, dropout=0.2, family=family)
        optimizer = optimizer_of(model, late)
        steps = train(model, examples, plan(**changes), optimizer=optimizer)
        found.append((model, optimizer, _numbers(steps)))
    (dense, dense_optimizer, expected), (model, optimizer, numbers) = found
    assert numbers == expected
    assert_same(model, optimizer, dense, dense_optimizer)


def test_everybody_who_looks_between_steps_sees_weights_in_time(seed: int, tmp_path: Path) -> None:
    """Predictions, named weights, the state dict, a checkpoint: each at another step."""
    examples, others = random_examples(seed, count=20, longest=5), random_examples(seed + 1)
    models = [network(seed) for _ in range(2)]
    optimizers = [optimizer_of(model, late) for model, late in zip(models, (False, True), strict=True)]
    fits = [
        _fit(model, optimizer, examples, total_steps=12, batch_size=2)
        for model, optimizer in zip(models, optimizers, strict=True)
    ]
    weight = models[1].get_input_embeddings().weight
    for number, (expected, step) in enumerate(zip(*fits, strict=True), start=1):
        assert _numbers([step]) == _numbers([expected])
        if number == 3:
            dense, late = (predict_outputs(model, others, 100, torch.device("cpu")) for model in models)
            assert all(np.array_equal(one, other) for one, other in zip(dense, late, strict=True))
        if number == 5:
            assert not same_bits(weight, models[0].get_input_embeddings().weight), "rows are late now"
            dense, late = map(named_weights, models)
            assert all(same_bits(dense[name], late[name]) for name in dense)
        if number == 7:
            dense, late = (model.state_dict() for model in models)
            assert all(same_bits(dense[name], late[name]) for name in dense if "ids" not in name)
        if number == 9:
            contents = []
            for model, optimizer, name in zip(models, optimizers, "dl", strict=True):
                path = save_checkpoint(tmp_path / name, number, model, optimizer, None, {})
                contents.append([file.read_bytes() for file in sorted(path.glob("*.safetensors"))])
            assert contents[0] == contents[1]
        if number == 11:
            dense, late = (optimizer.state_dict()["state"] for optimizer in optimizers)
            assert all(
                same_bits(dense[index][key], late[index][key])
                for index in dense
                for key in ("exp_avg", "exp_avg_sq", "step")
            )


def test_rows_stay_late_until_somebody_looks(seed: int) -> None:
    """Otherwise nothing here would prove anything."""
    model, examples = network(seed), random_examples(seed, count=4, longest=4)
    optimizer = optimizer_of(model, late=True)
    weight = model.get_input_embeddings().weight
    before = weight.detach().clone()
    steps = _fit(model, optimizer, examples, warmup_share=0.0)
    next(steps)
    read = {token for ids in examples.inputs["input_ids"] for token in ids}
    unread = [row for row in range(1, len(before)) if row not in read]
    assert same_bits(weight[unread], before[unread])
    optimizer.flush()
    assert bool((weight[unread] != before[unread]).all()), "they decay"
    steps.close()


@pytest.mark.parametrize("end", ["last step", "closed", "diverged"])
def test_after_the_loop_the_model_is_plain_again(seed: int, end: str) -> None:
    examples = random_examples(seed, count=20, longest=5)
    models = [network(seed) for _ in range(2)]
    for model, late in zip(models, (False, True), strict=True):
        if end == "diverged":
            factors = iter([1.0, 1.0, 1.0, 1.0, torch.inf, 1.0])
            model.classifier.bias.register_hook(lambda gradient, factors=factors: gradient * next(factors))
        steps = _fit(model, optimizer_of(model, late), examples, batch_size=2)
        for _ in range(4):
            next(steps)
        if end == "last step":
            list(steps)
        elif end == "closed":
            steps.close()
        else:
            with pytest.raises(Diverged):
                next(steps)
    embedding = models[1].get_input_embeddings()
    assert all(same_bits(one, other) for one, other in zip(*(m.parameters() for m in models), strict=True))
    assert embedding.sparse is False
    assert not embedding._forward_pre_hooks
    assert not embedding._state_dict_pre_hooks
    models[1](input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert not embedding.weight.grad.is_sparse


def test_weights_put_in_between_steps_are_not_moved_by_what_was_missed(seed: int) -> None:
    examples = random_examples(seed, count=20, longest=5)
    for put in (copy_weights, lambda model, weights: model.load_state_dict(weights, strict=False)):
        model = network(seed)
        steps = _fit(model, optimizer_of(model, late=True), examples, batch_size=2)
        best = {name: tensor.clone() for name, tensor in named_weights(model).items()}
        for _ in range(3):
            next(steps)
        put(model, best)
        steps.close()
        assert all(same_bits(tensor, best[name]) for name, tensor in model.named_parameters())


def test_a_resumed_training_with_late_rows_is_the_same(seed: int, tmp_path: Path) -> None:
    """The checkpoint of a late optimiser goes on in a dense one, and the other way round."""
    examples = random_examples(seed, count=20, longest=5)
    whole = network(seed, dropout=0.2)
    whole_optimizer = optimizer_of(whole, late=True)
    expected = _numbers(train(whole, examples, plan(total_steps=20, batch_size=3), optimizer=whole_optimizer))
    for late in (True, False):
        model, again = network(seed, dropout=0.2), network(seed + 1, dropout=0.2)
        optimizer = optimizer_of(model, late)
        steps = _fit(model, optimizer, examples, total_steps=20, batch_size=3)
        numbers = _numbers([next(steps) for _ in range(7)])
        save_checkpoint(tmp_path / str(late), 7, model, optimizer, None, {})
        steps.close()
        found = newest_checkpoint(tmp_path / str(late), pytest.fail)
        assert found is not None
        other = optimizer_of(again, not late)
        found.restore(again, other)
        numbers += _numbers(
            train(again, examples, plan(total_steps=20, batch_size=3), start=7, optimizer=other)
        )
        assert numbers == expected
        assert_same(again, other, whole, whole_optimizer)


def test_a_reading_behind_the_modules_back_is_refused(seed: int) -> None:
    model = network(seed)
    optimizer = optimizer_of(model, late=True)
    with (
        optimizer.attached(),
        pytest.raises(ConfigurationError, match=r"otherwise than by calling.*\n.*GRAFTLM_KERNELS=off"),
    ):
        model.get_input_embeddings().weight.sum().backward()


def test_gradients_that_are_forgotten_move_nothing(seed: int) -> None:
    model = network(seed)
    optimizer = optimizer_of(model, late=True)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with optimizer.attached():
        model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
        assert optimizer.gradient_norm() > 0.0
        optimizer.zero_grad()
        assert optimizer.gradient_norm() == 0.0
        optimizer.clip_and_step(0.0, 1.0)
    assert all(same_bits(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_state_is_not_loaded_under_late_rows(seed: int) -> None:
    optimizer = optimizer_of(network(seed), late=True)
    with optimizer.attached(), pytest.raises(RuntimeError, match="while embedding rows are late"):
        optimizer.load_state_dict(optimizer.state_dict())


def _shared(seed: int) -> nn.Module:
    small = {"vocab_size": 60, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(**small, tie_word_embeddings=False, decoder_start_token_id=0)
    )


def _tied(seed: int) -> nn.Module:
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=60, n_embd=8, n_layer=1, n_head=2))


def _changed(**changes: Any) -> Any:
    def build(seed: int) -> nn.Module:
        model = network(seed)
        for name, value in changes.items():
            setattr(model.get_input_embeddings(), name, value)
        return model

    return build


def _cast(seed: int) -> nn.Module:
    return network(seed).double()


def _frozen(seed: int) -> nn.Module:
    model = network(seed)
    model.get_input_embeddings().requires_grad_(False)
    return model


def _replaced(seed: int) -> nn.Module:
    class Noisy(nn.Embedding):
        pass

    model = network(seed)
    model.set_input_embeddings(Noisy(60, 32))
    return model


REASONS = {
    "no name": (lambda seed: nn.Linear(2, 2), "names no input embedding"),
    "shared": (_shared, "its weights are shared: "),
    "tied": (_tied, "its weights are "),
    "frozen": (_frozen, "it is frozen"),
    "float64": (_cast, "it is not float32"),
    "another class": (_replaced, "is a Noisy, not a plain Embedding"),
    "limited norm": (_changed(max_norm=1.0), "rescales rows"),
    "by frequency": (_changed(scale_grad_by_freq=True), "rescales rows"),
}


@pytest.mark.parametrize("name", REASONS)
def test_rows_are_not_late_where_that_would_be_seen(seed: int, name: str) -> None:
    build, reason = REASONS[name]
    found = lazy_embedding(build(seed))
    assert isinstance(found, str)
    assert reason in found


def test_rows_of_a_usual_classifier_are(seed: int) -> None:
    model = network(seed)
    assert lazy_embedding(model) is model.get_input_embeddings()


def test_a_small_vocabulary_is_dense(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 61)
    assert lazy_embedding(network(seed)) == "it has 60 rows; below 61 that saves no time"


def test_several_processes_are_dense(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert lazy_embedding(network(seed)) == "several processes exchange dense gradients"
