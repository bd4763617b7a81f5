"""Whole steps as CUDA graphs: recorded once for each shape of batch, and replayed with the numbers of the next.

A step of a small network is some thousand launches, and launching takes the CPU longer than the GPU computes. A graph
is one launch of them all. It computes in the memory that it was recorded with, so what differs from step to step lies
there: inputs, targets, where tokens stand, the keys of dropout, divisors, learning rates. Whatever else a step is told
is that of the batch it was recorded with.

Shapes have to be few. More examples fill each batch up; what the head says of them is cut off, so they add nothing to
loss and gradients. A step that is not replayed takes a batch of the same shape, so it makes no difference which are:
a run that is resumed, with nothing recorded yet, goes on as it would have, unless graphs have been given up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from graftlm.data.features import IGNORED
from graftlm.errors import clip
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
        try:
            with torch.cuda.stream(self._stream):
                step()
        finally:
            usual.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # torch leaves its stream behind where a recording fails.
        with torch.cuda.stream(usual), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
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
        fillers: examples behind them.
        width: places of each in the padded batch.
        tokens: of all together.
    """

    examples: int
    fillers: int
    width: int
    tokens: int

    @classmethod
    def of(cls, lengths: NDArray[np.int64]) -> Shape:
        """Return the smallest shape that holds examples of these lengths.

        Tokens are rounded up by an eighth at most, widths to 16, 24, 32, 48, 64, 96 ...
        """
        total, longest = int(lengths.sum()), max(_NARROWEST, int(lengths.max()))
        power = 1 << (longest - 1).bit_length()
        narrower, width = (
            (power // 2, power * 3 // 4) if power * 3 // 4 >= longest else (power * 3 // 4, power)
        )
        step = max(_FEWEST_STEP, 1 << max(0, total.bit_length() - 4))
        # So many that none is longer than the longest real one: a network may know no more positions.
        fillers = math.ceil(step / narrower)
        return cls(len(lengths), fillers, width, step * math.ceil((total + fillers) / step))

    def lengths(self, real: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tokens of the examples and the fillers, [examples + fillers]; a filler has one at least.

        An example without tokens would be computed otherwise.
        """
        each, more = divmod(self.tokens - int(real.sum()), self.fillers)
        return np.concatenate([real, np.full(self.fillers, each) + (np.arange(self.fillers) < more)])

    def batch(self, given: Batch, examples: Examples) -> Batch:
        """Return a batch of these examples with the fillers, on the CPU. It has the targets of the examples alone.

        A filler repeats the first token of the first example: a pad token at the end of all looks as if a mask were
        missing.
        """
        right, real, targets = self.width - given.real.shape[1], given.real, given.targets
        assert targets is not None
        mask = torch.arange(self.width) < torch.from_numpy(self.lengths(real.sum(1).numpy()))[:, None]
        mask = mask.long()
        mask[: self.examples] = functional.pad(real, (0, right))
        inputs: dict[str, Tensor] = {}
        for name, values in given.inputs.items():
            if name != "attention_mask":
                wide = functional.pad(values, (0, right), value=examples.padding[name])
                more = torch.full((self.fillers, self.width), int(values[0, int(real[0].argmax())]))
                inputs[name] = torch.cat([wide, more])
        if not isinstance(examples.targets, np.ndarray):  # one for each token
            targets = functional.pad(targets, (0, right), value=IGNORED)
        return Batch({**inputs, "attention_mask": mask}, targets, given.rows, mask)


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


@dataclass(frozen=True)
class _Training:
    """What the steps of a training have in common; see `GraphedSteps`."""

    model: nn.Module
    loss: Loss
    optimizer: TorchAdamW
    plan: Plan
    device: torch.device


class _Step:
    """A step, all of whose numbers lie in memory that other ones can be put into.

    Args:
        training: whose it is.
        batch: of a shape.
        fillers: examples at its end that are none.
        number: of the step, from 1.
        due: its examples.
    """

    def __init__(self, training: _Training, batch: Batch, fillers: int, number: int, due: Due) -> None:
        assert batch.targets is not None
        self._training, self._batch = training, batch
        keys = example_keys(training.plan.seed, number - 1, due.rows)
        self._keys = np.concatenate([keys, np.zeros(fillers, dtype=np.uint64)])
        self._layout = Layout.of(batch.real, torch.device("cpu"))
        weights = training.loss.weights(due.source.targets_of(due.rows))
        self._terms = list(weights)
        self._given = [
            *batch.inputs.values(),
            batch.targets,
            *(self._layout.places, self._layout.positions, self._layout.begins),
            *(torch.from_numpy(each.view(np.int64)) for each in keys_of_layout(self._keys, self._layout)),
            torch.tensor([1.0 / weight if weight else 0.0 for weight in weights.values()]),
            torch.tensor([float(group["lr"]) for group in training.optimizer.param_groups]),
        ]

    @cached_property
    def _memory(self) -> _Memory:
        return _Memory(self._given, self._training.device)

    def take(self, other: _Step) -> None:
        """Let the next run be that of another step, of the same shape."""
        self._memory.take(other._given)

    def run(self) -> Tensor:
        """Take the step; return its loss and norm, float64 [2] on the device. No gradient is left."""
        training, batch, known = self._training, self._batch, self._layout
        there = iter(self._memory.tensors)
        inputs = {name: next(there) for name in batch.inputs}
        targets, places, positions, begins, *of_dropout, factors, rates = there
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

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: TorchAdamW,
        plan: Plan,
        device: torch.device,
        record: Recorder,
        say: Callable[[str], None],
    ) -> None:
        self._training = _Training(model, loss, optimizer, plan, device)
        self._record, self._say = record, say
        self._seen = Counter[Shape]()
        self._graphs: dict[Shape, _Graph] = {}
        self._refused = False

    def __call__(self, number: int, due: Due) -> tuple[Tensor, int] | None:
        """Take a step, or return None if it is none of those that can be recorded, and has to be taken otherwise.

        Args:
            number: of the step, from 1.
            due: its examples.

        Returns:
            Loss and norm, float64 [2] on the device, to be read before the next step; and the real tokens.
        """
        source = due.source
        if self._refused or not isinstance(source, Examples) or not self._recordable(source, due):
            return None
        given = source.batch(due.rows, torch.device("cpu"))
        lengths = given.real.sum(1).numpy()
        if not lengths.all():
            return None
        shape = Shape.of(lengths)
        step = _Step(self._training, shape.batch(given, source), shape.fillers, number, due)
        try:
            return self._taken(shape, step), given.num_tokens
        except torch.OutOfMemoryError:  # by an earlier step than the one that moves the weights
            if not self._graphs:
                raise
            self._refuse("they take memory that the steps need")
            return None

    def _recordable(self, source: Examples, due: Due) -> bool:
        """Whether this is a step whose numbers of tokens, and of passes, are known before it."""
        plan, model = self._training.plan, self._training.model
        whole = plan.micro_batch is None or plan.micro_batch >= len(due.rows)
        # An encoder-decoder that writes nothing makes up what its decoder is given.
        apart = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        return whole and not source.written and is_flat(model) and not apart

    def _taken(self, shape: Shape, step: _Step) -> Tensor:
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.step.take(step)
            return graph.replay() if graph.proved else self._proving(graph, step)
        numbers = step.run()
        self._seen[shape] += 1
        if self._seen[shape] == 2 and len(self._graphs) < MOST_GRAPHS:
            try:
                with self._training.optimizer.standing_still():
                    self._graphs[shape] = _Graph(step, self._record(step.run))
            except Exception as error:  # whatever a machine, a version or a family says that cannot do it
                cause = error.__context__ or error
                self._refuse(f"{type(cause).__name__}: {clip(str(cause), 200)}")
        return numbers

    def _proving(self, graph: _Graph, step: _Step) -> Tensor:
        with self._training.optimizer.standing_still():
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
        self._training.optimizer.zero_grad(set_to_none=True)
        self._say(f"steps are not replayed as CUDA graphs: {reason}")
