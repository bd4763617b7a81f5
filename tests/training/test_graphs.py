"""Whole steps that are replayed, on a CPU: a recorder that calls the step again stands for CUDA's.

The step reads its numbers where a graph would, and nothing else of the batch that it was recorded with is renewed, so
what a graph would not see differently is not seen differently here.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.training.networks import LABELS, equal_bits, network, plan, random_examples
from torch import Tensor, nn
from torch.torch_version import TorchVersion
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
)

from graftlm import training_run
from graftlm.data.features import IGNORED
from graftlm.errors import Diverged
from graftlm.kernels import attention
from graftlm.models.flat.probe import make_flat
from graftlm.objectives.answer_span import AnswerSpan
from graftlm.objectives.binary_cross_entropy import BinaryCrossEntropy
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.objectives.mean_squared_error import MeanSquaredError
from graftlm.strategies.full import Full
from graftlm.training import graphs as graphs_module
from graftlm.training.batching import Examples
from graftlm.training.graphs import CudaRecorder, GraphedSteps, Replay, Shape
from graftlm.training.late import Late
from graftlm.training.loop import Plan, Step, fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.torch_adamw import TorchAdamW

STEPS = 40


_recording: ContextVar[bool] = ContextVar("recording", default=False)


@pytest.fixture(autouse=True)
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention and optimiser of accelerators; and nothing is sent to the device while a step is recorded."""
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    monkeypatch.setattr(attention, "_waited_for", lambda device: True)

    def sent(tensor: Tensor, device: torch.device) -> Tensor:
        assert not _recording.get()
        return sending(tensor, device)

    sending = vars(sys.modules["graftlm.kernels.sending"])["sent"]
    for name, module in list(sys.modules.items()):
        if name.startswith("graftlm.") and vars(module).get("sent") is sending:
            monkeypatch.setattr(module, "sent", sent)


class Recorder:
    """Calls the step again, in which the learning rates that Python knows are no numbers: a graph has other ones.

    Args:
        broken: makes of a replay another one.
    """

    optimizer: TorchAdamW

    def __init__(self, broken: Callable[[Replay], Replay] = lambda replay: replay) -> None:
        self.broken, self.recorded, self.replayed = broken, 0, 0

    def __call__(self, step: Replay) -> Replay:
        token = _recording.set(True)
        step()  # as CUDA's does, to warm up
        _recording.reset(token)
        self.recorded += 1
        again = self.broken(step)

        def replay() -> Tensor:
            self.replayed += 1
            groups = self.optimizer.param_groups
            rates = [group["lr"] for group in groups]
            for group in groups:
                group["lr"] = math.nan
            try:
                return again()
            finally:
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate

        return replay


def trained(
    model: nn.Module, examples: Examples, objective: Any, steps: Plan, record: Recorder | None
) -> tuple[list[Step], list[str], TorchAdamW]:
    """Train flat, with numbers read late, and with graphs where there is a recorder."""
    optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
    assert isinstance(optimizer, TorchAdamW) and examples.targets is not None
    loss = objective.bind(examples.targets, [str(label) for label in range(LABELS)])
    said: list[str] = []
    late = Late(8, lambda number: number == steps.total_steps)
    if record is not None:
        record.optimizer = optimizer
        device = torch.device("cpu")
        late = Late(8, late.settles, GraphedSteps(model, loss, optimizer, steps, device, record, said.append))
    found = list(fit(model, examples, loss, optimizer, steps, Accelerator(cpu=True), late=late))
    return found, said, optimizer


def tagged(seed: int) -> Examples:
    examples = random_examples(seed)
    random = np.random.default_rng(seed)
    tags = [random.integers(0, LABELS, size=length) for length in examples.lengths]
    for each in tags:
        each[0] = IGNORED
    return Examples(examples.inputs, tags, examples.padding)


def answered(seed: int) -> Examples:
    examples = random_examples(seed)
    ends = np.sort(np.random.default_rng(seed).integers(0, examples.lengths[:, None], size=(41, 2)), axis=1)
    return Examples(examples.inputs, ends, examples.padding)


def _bert(seed: int, kind: Any) -> nn.Module:
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=2 if kind is BertForQuestionAnswering else LABELS,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)


def _decides(seed: int, family: str) -> nn.Module:
    """A classifier of a family whose head reads the mean or the last token; its windows are shorter than the texts."""
    small = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_labels": LABELS,
        "pad_token_id": 0,
    }
    options = {
        "gpt2": {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
        "llama": {"intermediate_size": 48, "attention_dropout": 0.1, "num_key_value_heads": 1},
        "modernbert": {
            "intermediate_size": 48, "attention_dropout": 0.1, "embedding_dropout": 0.1, "mlp_dropout": 0.1,
            "local_attention": 8, "classifier_pooling": "mean", "cls_token_id": 1, "sep_token_id": 2,
        },
    }[family]  # fmt: skip
    config = AutoConfig.for_model(family, vocab_size=60, bos_token_id=1, eos_token_id=2, **small, **options)
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(config)


def _padded_left(seed: int) -> Examples:
    return replace(random_examples(seed), padding_side="left")


KINDS: dict[str, tuple[Any, Any, Any]] = {
    **{
        family: (partial(_decides, family=family), _padded_left, CrossEntropy())
        for family in ("gpt2", "llama", "modernbert")
    },
    "labels": (lambda seed: network(seed, 0.1), random_examples, CrossEntropy(class_weights="balanced")),
    "label_sets": (
        lambda seed: network(seed, 0.1, "distilbert", "label_sets"),
        lambda seed: random_examples(seed, kind="label_sets"),
        BinaryCrossEntropy(positive_weights="balanced"),
    ),
    "numbers": (
        lambda seed: network(seed, 0.1, "roberta", "numbers"),
        lambda seed: random_examples(seed, kind="numbers"),
        MeanSquaredError(),
    ),
    "tags": (lambda seed: _bert(seed, BertForTokenClassification), tagged, CrossEntropy()),
    "answers": (lambda seed: _bert(seed, BertForQuestionAnswering), answered, AnswerSpan()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_are_the_steps(seed: int, kind: str) -> None:
    """Losses, norms, weights and moments, with dropout, uneven batches and a rate that changes."""
    make, draw, objective = KINDS[kind]
    models = [make(seed) for _ in range(2)]
    reasons = {make_flat(model) for model in models}
    if kind == "modernbert" and reasons == {"this version of transformers cannot exchange its attention"}:
        pytest.skip(f"modernbert: {reasons.pop()}")
    assert reasons == {""}
    examples, steps, record = draw(seed), plan(total_steps=STEPS, batch_size=8), Recorder()
    expected, _, usual = trained(models[0], examples, objective, steps, None)
    found, said, optimizer = trained(models[1], examples, objective, steps, record)
    assert said == [] and record.recorded >= 2 and record.replayed >= 8
    for one, other in zip(found, expected, strict=True):
        assert (one.number, one.learning_rate, one.examples, one.tokens) == (
            other.number, other.learning_rate, other.examples, other.tokens
        )  # fmt: skip
        np.testing.assert_allclose(one.loss, other.loss, rtol=2e-5)
        np.testing.assert_allclose(one.gradient_norm, other.gradient_norm, rtol=2e-4)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        # Some biases have no gradient but rounding (of keys, and where a softmax is over tokens), which AdamW enlarges.
        if one.dim() > 1:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)
    assert {int(state["step"]) for state in optimizer.state.values()} == {STEPS}
    assert {int(state["step"]) for state in usual.state.values()} == {STEPS}
    assert all(isinstance(group["lr"], float) and not group["capturable"] for group in optimizer.param_groups)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_which_steps_are_replayed_changes_no_bit(seed: int, autocast: torch.dtype | None) -> None:
    """So a run that was resumed, which has recorded nothing yet, goes on as it would have."""
    models = [network(seed, dropout=0.1) for _ in range(2)]
    assert [make_flat(model) for model in models] == ["", ""]

    class Unrecorded(GraphedSteps):
        def _taken(self, shape: Shape, step: Any) -> Tensor:
            return step.run()

    examples, steps = random_examples(seed), plan(total_steps=STEPS, autocast=autocast)
    losses: list[list[float]] = []
    for model, kind in zip(models, (GraphedSteps, Unrecorded), strict=True):
        optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
        loss = CrossEntropy().bind(examples.targets, ["0", "1", "2"])  # pyright: ignore
        assert isinstance(optimizer, TorchAdamW)
        record = Recorder()
        record.optimizer = optimizer
        graphs = kind(model, loss, optimizer, steps, torch.device("cpu"), record, print)
        late = Late(8, lambda number: number == STEPS, graphs)
        losses.append(
            [s.loss for s in fit(model, examples, loss, optimizer, steps, Accelerator(cpu=True), late=late)]
        )
    assert losses[0] == losses[1]
    assert equal_bits(*models)


def test_a_spoilt_replay_moves_nothing(seed: int) -> None:
    """Nor do the steps after it; it is named, some steps later."""
    model, examples, record = network(seed, dropout=0.1), random_examples(seed, longest=5), Recorder()
    assert make_flat(model) == ""
    optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
    assert isinstance(optimizer, TorchAdamW)
    record.optimizer = optimizer
    spoiling, kept = False, dict[str, Tensor]()
    handle: Any = model.register_forward_hook(lambda *given: spoil(given[2]))

    def spoil(output: Any) -> None:
        output.logits = output.logits * (math.nan if spoiling else 1.0)

    loss, steps = (
        CrossEntropy().bind(np.zeros(3, dtype=np.int64), ["0", "1", "2"]),
        plan(total_steps=30, batch_size=8),
    )
    graphs = GraphedSteps(model, loss, optimizer, steps, torch.device("cpu"), record, print)

    def whole(number: int, due: Any) -> Any:
        nonlocal spoiling
        spoiling = number == 25
        if spoiling:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})
        return graphs(number, due)

    late = Late(8, lambda number: number == 30, whole)
    with pytest.raises(Diverged, match="step 25"):
        list(fit(model, examples, loss, optimizer, steps, Accelerator(cpu=True), late=late))
    handle.remove()
    assert record.replayed > 10
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("when", ["while it is recorded", "in a later step"])
def test_without_memory_for_graphs_the_run_goes_on(seed: int, when: str) -> None:
    models = [network(seed, dropout=0.1) for _ in range(2)]
    assert [make_flat(model) for model in models] == ["", ""]
    examples, steps = random_examples(seed, longest=5), plan(total_steps=12, batch_size=8)

    def full(replay: Replay) -> Replay:
        def again() -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return again if when == "in a later step" else again()  # pyright: ignore[reportReturnType]

    _, said, _ = trained(models[0], examples, CrossEntropy(), steps, Recorder(full))
    trained(models[1], examples, CrossEntropy(), steps, None)
    (line,) = said
    assert ("OutOfMemoryError" if when == "while it is recorded" else "memory that the steps need") in line
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        if one.dim() > 1:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)


def test_there_are_not_more_graphs_than_that(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_module, "MOST_GRAPHS", 1)
    model, record = network(seed), Recorder()
    assert make_flat(model) == ""
    steps = plan(total_steps=30, batch_size=8, max_gradient_norm=None)
    _, said, _ = trained(model, random_examples(seed), CrossEntropy(), steps, record)
    assert said == [] and record.recorded == 1


def _of_the_first_batch(replay: Replay) -> Replay:
    """A graph that has copied a number where it should have read it."""
    kept: list[Tensor] = []

    def again() -> Tensor:
        kept.append(replay())
        return kept[0]

    return again


def _cannot(replay: Replay) -> Replay:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (_of_the_first_batch, "of which the loss and norm are"),
        (_cannot, "RuntimeError: 'operation not permitted"),
    ],
)
def test_a_graph_that_says_otherwise_moves_nothing(seed: int, broken: Any, why: str) -> None:
    models = [network(seed, dropout=0.1) for _ in range(2)]
    assert [make_flat(model) for model in models] == ["", ""]
    examples, steps = random_examples(seed, longest=5), plan(total_steps=12, batch_size=8)
    if broken is _of_the_first_batch:  # has to have seen one
        plain = _of_the_first_batch

        def broken(replay: Replay) -> Replay:
            again = plain(replay)
            again()
            return again

    _, said, optimizer = trained(models[0], examples, CrossEntropy(), steps, Recorder(broken))
    _, _, usual = trained(models[1], examples, CrossEntropy(), steps, None)
    (line,) = said
    assert line.startswith("steps are not replayed as CUDA graphs: ") and why in line
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        if one.dim() > 1:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)
    assert {int(state["step"]) for state in optimizer.state.values()} == {12}
    assert all(
        torch.allclose(optimizer.state[p]["exp_avg"], usual.state[q]["exp_avg"], rtol=1e-2, atol=1e-5)
        for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True)
    )


def test_what_cannot_be_recorded_is_taken_as_ever(seed: int) -> None:
    examples, record = random_examples(seed), Recorder()
    padded = network(seed, dropout=0.1)
    trained(padded, examples, CrossEntropy(), plan(), record)
    model = network(seed, dropout=0.1)
    assert make_flat(model) == ""
    before = network(seed, dropout=0.1)
    assert make_flat(before) == ""
    found, _, _ = trained(model, examples, CrossEntropy(), plan(micro_batch=4), record)
    expected, _, _ = trained(before, examples, CrossEntropy(), plan(micro_batch=4), None)
    assert record.recorded == 0
    assert [step.loss for step in found] == [step.loss for step in expected]
    assert equal_bits(model, before)


def test_shapes_are_few_and_hold_what_they_are_for(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(2_000):
        lengths = random.integers(1, random.integers(2, 600), size=random.integers(1, 40))
        shape = Shape.of(lengths)
        all_ = shape.lengths(lengths)
        assert len(all_) == shape.examples + shape.fillers and all_.sum() == shape.tokens
        assert all_.min() >= 1 and all_.max() <= max(16, lengths.max()) <= shape.width
        assert shape.tokens <= 1.125 * lengths.sum() + shape.fillers + 8
        assert shape.width <= max(16, 1.5 * lengths.max())
    mix = [Shape.of(np.clip(random.geometric(1 / 20, size=16) + 2, 3, 60)) for _ in range(3_000)]
    assert len(set(mix)) <= 60


def test_cuda_is_asked_for_what_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph can be made here; the calls are those of the signatures that are installed, in an order that is safe."""
    events: list[Any] = []
    signature = inspect.signature(torch.cuda.graph)

    class Stream:
        def __init__(self, device: Any) -> None:
            self.device = device

        def wait_stream(self, other: Any) -> None:
            events.append(("waits", self.device))

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    @contextmanager
    def recording(*args: Any, **options: Any) -> Iterator[None]:
        signature.bind(*args, **options)
        events.append(("records", options["pool"], options["stream"]))
        yield

    assert callable(torch.cuda.CUDAGraph.replay)
    used = Stream("used")
    for name, fake in {
        "Stream": Stream, "CUDAGraph": Graph, "graph": recording, "graph_pool_handle": lambda: "pool",
        "current_stream": lambda device: used, "stream": lambda stream: nullcontext(),
    }.items():  # fmt: skip
        assert callable(getattr(torch.cuda, name))
        monkeypatch.setattr(torch.cuda, name, fake)
    record = CudaRecorder("own")  # pyright: ignore[reportArgumentType]
    numbers = torch.zeros(2)

    def step() -> Tensor:
        events.append("step")
        return numbers

    replay = record(step)
    own = record._stream  # pyright: ignore[reportPrivateUsage]
    assert events == [("waits", "own"), "step", ("waits", "used"), ("records", "pool", own), "step"]
    assert replay() is numbers and events[5:] == ["replay"]


@pytest.mark.parametrize(
    ("execution", "padded_because", "device", "version", "made"),
    [
        ("auto", "", "cuda", "2.13.0+cu130", True), ("flat", "", "cuda", "2.13.0", False),
        ("auto", "its attention", "cuda", "2.13.0", False), ("auto", "", "cpu", "2.13.0", False),
        ("auto", "", "cuda", "2.11.1", False),
    ],
)  # fmt: skip
def test_a_run_has_graphs_on_cuda_where_recipe_and_torch_let_it(
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    execution: str,
    padded_because: str,
    device: str,
    version: str,
    made: bool,
) -> None:
    monkeypatch.setattr(training_run, "CudaRecorder", lambda device: Recorder())
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    model = network(seed)
    run: Any = SimpleNamespace(
        options=SimpleNamespace(execution=execution), padded_because=padded_because, model=model, plan=plan(),
        accelerator=SimpleNamespace(device=torch.device(device)), progress=SimpleNamespace(say=print),
        optimizer=build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01),
    )  # fmt: skip
    found = training_run.TrainingRun._graphs(run, CrossEntropy().bind(np.zeros(3, dtype=np.int64), ["0"]))  # pyright: ignore[reportPrivateUsage]
    assert (found is not None) == made
