"""Whole steps as CUDA graphs: recorded once for each shape of batch, and replayed with the numbers of the next.

A step of a small network is some thousand launches, and launching takes the CPU longer than the GPU computes. A graph
is one launch of them all. It computes in the memory that it was recorded with, so what differs from step to step lies
there: inputs, targets, where tokens stand, the keys of dropout, divisors, learning rates. Whatever else a step is told
is that of the batch it was recorded with.

Shapes have to be few. Examples of pad tokens fill each batch up; what the head says of them is cut off, so they add
nothing to loss and gradients. A step that is not replayed takes a batch of the same shape, so it makes no difference
which are, and a run that is resumed, with nothing recorded yet, goes on as it would have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from graftlm.data.features import IGNORED
from graftlm.kernels.keys import example_keys
from graftlm.kernels.sending import sent
from graftlm.models.flat.execution import is_flat
from graftlm.models.flat.layout import DropoutKeys, Layout, keys_of_layout
from graftlm.objectives._objective import Loss
from graftlm.training.batching import Batch, Examples
from graftlm.training.loop import Plan
from graftlm.training.order import Due
from graftlm.training.outputs import forward_laid
from graftlm.training.torch_adamw import TorchAdamW

MOST_GRAPHS = 64
_NARROWEST, _FEWEST_STEP = 16, 8
_AGREEMENT = 1e-4
"""Of loss and gradient norm, relative: sums whose order a GPU leaves open stay below it, and both sides round alike."""

Replay = Callable[[], Tensor]
Recorder = Callable[[Replay], Replay]
"""Takes a function that computes on a device and returns a tensor; returns what computes the same again."""


class CudaRecorder:
    """Records on a stream of its own, where it runs everything once before.

    All graphs share one pool of memory. That they may, in whatever order they are replayed, as nothing that one has
    written is read after the next has begun.

    Args:
        device: of CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def __call__(self, step: Replay) -> Replay:
        """Record a step, which leaves nothing behind on the side of Python, and moves nothing now."""
        usual = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            step()
        usual.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            numbers = step()

        def replay() -> Tensor:
            graph.replay()
            return numbers

        return replay


@dataclass(frozen=True)
class Shape:
    """What the batches of one graph have in common.

    Args:
        examples: real ones.
        fillers: examples of pad tokens behind them.
        width: places of each in the padded batch.
        tokens: of all together.
    """

    examples: int
    fillers: int
    width: int
    tokens: int

    @classmethod
    def of(cls, lengths: NDArray[np.int64]) -> Shape:
        """Return the smallest shape that holds examples of these lengths, at most an eighth larger in tokens.

        Widths are 16, 24, 32, 48, 64, 96 ...
        """
        total, longest = int(lengths.sum()), max(_NARROWEST, int(lengths.max()))
        power = 1 << (longest - 1).bit_length()
        width = power * 3 // 4 if power * 3 // 4 >= longest else power
        step = max(_FEWEST_STEP, 1 << max(0, total.bit_length() - 4))
        # Each filler has a token at least, as an example without any would be computed otherwise.
        fillers = math.ceil(step / (width - 1))
        return cls(len(lengths), fillers, width, step * math.ceil((total + fillers) / step))

    def lengths(self, real: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tokens of the examples and the fillers, [examples + fillers]."""
        each, more = divmod(self.tokens - int(real.sum()), self.fillers)
        return np.concatenate([real, np.full(self.fillers, each) + (np.arange(self.fillers) < more)])

    def batch(self, examples: Examples, rows: NDArray[np.int64]) -> Batch:
        """Return these examples and the fillers on the CPU, with the targets of the examples alone."""
        given = examples.batch(rows, torch.device("cpu"))
        right = self.width - given.real.shape[1]
        mask = torch.arange(self.width) < torch.from_numpy(self.lengths(examples.lengths[rows])[:, None])
        mask = mask.long()
        mask[: self.examples] = functional.pad(given.real, (0, right))
        inputs = {
            name: functional.pad(values, (0, right, 0, self.fillers), value=examples.padding[name])
            for name, values in given.inputs.items()
            if name != "attention_mask"
        }
        targets = given.targets
        assert targets is not None
        if not isinstance(examples.targets, np.ndarray):  # one for each token
            targets = functional.pad(targets, (0, right), value=IGNORED)
        return Batch({**inputs, "attention_mask": mask}, targets, rows, mask)


class _Memory:
    """Tensors that lie on a device, all of a type in one piece, so that those of another batch come in one copy.

    Args:
        tensors: on the CPU.
        device: to put them on.
    """

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._device = device
        self._pieces = {dtype: sent(piece, device) for dtype, piece in _joined(tensors).items()}
        begins = Counter[torch.dtype]()
        self.tensors: list[Tensor] = []
        for each in tensors:
            begin = begins[each.dtype]
            self.tensors.append(self._pieces[each.dtype][begin : begin + each.numel()].view(each.shape))
            begins[each.dtype] += each.numel()

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Put other tensors of the same shapes in their place."""
        for dtype, piece in _joined(tensors).items():
            self._pieces[dtype].copy_(sent(piece, self._device))


def _joined(tensors: Sequence[Tensor]) -> dict[torch.dtype, Tensor]:
    types = {each.dtype for each in tensors}
    return {dtype: torch.cat([each.flatten() for each in tensors if each.dtype == dtype]) for dtype in types}


class _Step:
    """A step of a training, all of whose numbers lie in memory that other ones can be put into.

    Args:
        training: whose it is.
        shape: of its batch.
        number: of the step, from 1.
        due: its examples.
    """

    def __init__(self, training: GraphedSteps, shape: Shape, number: int, due: Due) -> None:
        assert isinstance(due.source, Examples)
        self._training, self._batch = training, shape.batch(due.source, due.rows)
        keys = example_keys(training.plan.seed, number - 1, due.rows)
        self._keys = np.concatenate([keys, np.zeros(shape.fillers, dtype=np.uint64)])
        self._layout = Layout.of(self._batch.real, torch.device("cpu"))
        weights = training.loss.weights(due.source.targets_of(due.rows))
        self._terms = list(weights)
        groups = training.optimizer.param_groups
        assert self._batch.targets is not None
        self._given = [
            *self._batch.inputs.values(),
            self._batch.targets,
            *(self._layout.places, self._layout.positions, self._layout.begins),
            *(torch.from_numpy(each.view(np.int64)) for each in keys_of_layout(self._keys, self._layout)),
            torch.tensor([1.0 / weight if weight else 0.0 for weight in weights.values()]),
            torch.tensor([float(group["lr"]) for group in groups]),
        ]
        self._memory = _Memory(self._given, training.device)

    def take(self, other: _Step) -> None:
        """Let the next run be that of another step, of the same shape."""
        self._memory.take(other._given)

    def run(self) -> Tensor:
        """Take the step; return its loss and norm, float64 [2] on the device. No gradient is left."""
        training, batch = self._training, self._batch
        there = iter(self._memory.tensors)
        inputs = {name: next(there) for name in batch.inputs}
        targets, places, positions, begins, *of_dropout, factors, rates = there
        known = self._layout
        layout = Layout(known.lengths, known.width, known.starts, places, positions, begins)
        outputs = forward_laid(
            training.model,
            Batch(inputs, targets, batch.rows, batch.real),
            training.plan.autocast,
            layout,
            DropoutKeys(self._keys, layout, there=of_dropout),
        )
        value = torch.zeros((), device=training.device)
        for term in training.loss.terms(outputs[: len(targets)], targets):
            value = value + term.total * (term.coefficient * factors[self._terms.index(term.name)])
        value.backward()
        with training.optimizer.recordable(rates.unbind()):
            numbers = training.optimizer.step_if_finite(value.detach(), training.plan.max_gradient_norm)
        training.optimizer.zero_grad(set_to_none=True)
        return numbers


@dataclass
class _Graph:
    """A recorded step.

    Args:
        step: that was recorded.
        replay: takes it again, with what lies in its memory then.
        proved: whether it has once said of another batch what a step that is not recorded said.
    """

    step: _Step
    replay: Replay
    proved: bool = False


@dataclass
class GraphedSteps:
    """Steps of a training that are replayed where they can be.

    A shape is recorded when it is seen for the second time. The third time its graph computes loss and norm of that
    batch without moving anything, and where they are not those of the step, nothing is replayed from then on.

    Args:
        model: in training, on ``device``.
        loss: of the run.
        optimizer: whose steps need nobody to wait for.
        plan: of the run.
        device: that computes.
        record: makes graphs.
        say: is told why there are none, if so.
    """

    model: nn.Module
    loss: Loss
    optimizer: TorchAdamW
    plan: Plan
    device: torch.device
    record: Recorder
    say: Callable[[str], None]
    _seen: Counter[Shape] = field(default_factory=Counter[Shape])
    _graphs: dict[Shape, _Graph] = field(default_factory=dict[Shape, _Graph])
    _refused: bool = False

    def __call__(self, number: int, due: Due) -> tuple[Tensor, int] | None:
        """Take a step, or return None if it is none of those that can be recorded, and has to be taken otherwise.

        Args:
            number: of the step, from 1.
            due: its examples.

        Returns:
            Loss and norm, float64 [2] on the device, to be read before the next step; and the real tokens.
        """
        lengths = self._lengths(due)
        if self._refused or lengths is None:
            return None
        shape, tokens = Shape.of(lengths), int(lengths.sum())
        step, graph = _Step(self, shape, number, due), self._graphs.get(shape)
        if graph is not None:
            graph.step.take(step)
            return (graph.replay() if graph.proved else self._prove(graph, step)), tokens
        numbers = step.run()
        self._seen[shape] += 1
        if self._seen[shape] == 2 and len(self._graphs) < MOST_GRAPHS:
            self._record(shape, step)
        return numbers, tokens

    def _lengths(self, due: Due) -> NDArray[np.int64] | None:
        """Return the tokens of each example, or None where such a step is not recorded."""
        source, config = due.source, getattr(self.model, "config", None)
        whole = self.plan.micro_batch is None or self.plan.micro_batch >= len(due.rows)
        if not isinstance(source, Examples) or source.written or not whole or not is_flat(self.model):
            return None
        if getattr(config, "is_encoder_decoder", False):  # which makes up what it is given
            return None
        lengths = np.array([len(source.inputs["input_ids"][row]) for row in due.rows])
        return lengths if lengths.all() else None

    def _record(self, shape: Shape, step: _Step) -> None:
        try:
            with self.optimizer.standing_still():
                self._graphs[shape] = _Graph(step, self.record(step.run))
        except Exception as error:  # whatever a machine, a version or a family says that cannot do it
            self._refuse(f"{type(error).__name__}: {error}")

    def _prove(self, graph: _Graph, step: _Step) -> Tensor:
        with self.optimizer.standing_still():
            found = graph.replay().clone()
        numbers = step.run()
        graph.proved = torch.allclose(found, numbers, rtol=_AGREEMENT, atol=0.0)
        if not graph.proved and bool(numbers.isfinite().all()):
            self._refuse(
                f"one says {found.tolist()} of a batch of which the loss and norm are {numbers.tolist()}"
            )
        return numbers

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._graphs.clear()
        self.optimizer.zero_grad(set_to_none=True)
        self.say(f"steps are not replayed as CUDA graphs: {reason}")
