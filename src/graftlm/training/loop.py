"""The training loop: a generator that yields one record per optimiser step.

Logging, evaluation, early stopping and saving are ordinary code of the caller, after each ``yield``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from graftlm.errors import Diverged
from graftlm.kernels.keys import example_keys
from graftlm.objectives._objective import Loss
from graftlm.training.batching import Batch, Source, micro_batches
from graftlm.training.frozen import KeptFeatures, set_training
from graftlm.training.late import Late, Pending
from graftlm.training.memory import SMALLER_MODEL, SMALLER_STEPS, memory_for
from graftlm.training.optimisation import DECAY_SHARE, Stepping, learning_rate_factor, set_learning_rate
from graftlm.training.order import Due, Order
from graftlm.training.outputs import forward_where_targets
from graftlm.training.randomness import dropout_seed
from graftlm.training.torch_adamw import TorchAdamW

_RATE = "training.learning_rate"


@dataclass(frozen=True)
class Plan:
    """Everything about the steps of a run that is decided before the first one.

    Args:
        total_steps: optimiser steps of the whole run.
        order: which examples each step gets.
        micro_batch: examples of a forward pass; None takes all of a step at once.
        seed: of the run.
        warmup_share, schedule, decay_share: see `graftlm.training.optimisation.learning_rate_factor`.
        max_gradient_norm: clipping threshold, or None.
        autocast: dtype of the forward pass, or None for float32.
    """

    total_steps: int
    order: Order
    micro_batch: int | None
    seed: int
    warmup_share: float
    schedule: str
    max_gradient_norm: float | None
    autocast: torch.dtype | None = None
    decay_share: float = DECAY_SHARE


@dataclass(frozen=True)
class Step:
    """What one optimiser step did.

    Args:
        number: 1-based.
        epoch: passes over the data finished after this step, fractional.
        loss: the objective over all examples of the step, each term divided once by its whole weight.
        gradient_norm: global L2 norm before clipping.
        learning_rate: the largest of the groups'.
        examples: in this step, over all ranks.
        tokens: real tokens of these examples.
        seconds: wall time; of steps that are read late and together, an equal part.
        settled: whether the weights are those after this step. Where it was read late, later ones may have begun.
    """

    number: int
    epoch: float
    loss: float
    gradient_norm: float
    learning_rate: float
    examples: int
    tokens: int
    seconds: float
    settled: bool = True


Forward = Callable[[nn.Module, Batch, torch.dtype | None, NDArray[np.uint64] | None], tuple[Any, Any]]
"""Model, batch, dtype of the forward pass and keys of the examples for dropout -> outputs and targets, as the objective
compares them."""


def fit(
    model: nn.Module,
    examples: Source,
    loss: Loss,
    optimizer: Stepping,
    plan: Plan,
    accelerator: Accelerator,
    start_step: int = 0,
    features: KeptFeatures | None = None,
    forward: Forward = forward_where_targets,
    late: Late | None = None,
) -> Iterator[Step]:
    """Train and yield after every optimiser step, from ``start_step`` (steps already done) to the last.

    The loss of a step is ``sum over terms of coefficient * total / weight`` with totals and weights summed over all
    micro-batches and ranks, so any split of the same examples gives the same update.

    Between steps some weights may be late (see `Stepping.attached`): run the model or take its state dict, or call
    ``optimizer.flush()``. When this generator has ended or was closed, none is.

    With ``late`` nothing within a step waits for the device (`graftlm.training.late`), so a loss that is not finite is
    noticed some steps later; on the device no weight has moved since. The optimiser is then a `TorchAdamW`.

    A body of which nothing moves reads as in evaluation; with its ``features`` of all examples it is not run at all.

    Raises:
        Diverged: at the first non-finite loss or gradient norm, before the weights are touched.
        MissingResource: the memory does not suffice.
    """
    steps = plan.order.steps(examples, start_step)
    set_training(model)
    pending = None if late is None else Pending[Step](late, time.perf_counter())
    with optimizer.attached():
        for number in range(start_step + 1, plan.total_steps + 1):
            began, due = time.perf_counter(), next(steps)
            factor = learning_rate_factor(
                number - 1, plan.total_steps, plan.warmup_share, plan.schedule, plan.decay_share
            )
            rate = set_learning_rate(optimizer, factor)
            accumulate = partial(_accumulate, model, due, loss, plan, accelerator, number, features, forward)
            memory = memory_for(f"step {number}, the moments of AdamW", SMALLER_MODEL)
            if late is None or pending is None:
                value, tokens = accumulate(torch.device("cpu"))
                with memory:
                    norm = finite_norm(optimizer, float(value), number, due.rows.tolist(), _RATE)
                    optimizer.clip_and_step(norm, plan.max_gradient_norm)
                seconds = time.perf_counter() - began
                records = iter([_record(number, due, rate, tokens, [float(value), norm], seconds, True)])
            else:
                with memory_for(f"step {number}", SMALLER_STEPS):
                    taken = late.whole(number, due)
                if taken is None:
                    assert isinstance(optimizer, TorchAdamW)
                    value, tokens = accumulate(accelerator.device)
                    with memory:
                        taken = optimizer.step_if_finite(value, plan.max_gradient_norm), tokens
                numbers, tokens = taken
                records = pending.add(number, numbers, partial(_record, number, due, rate, tokens))
            optimizer.zero_grad(set_to_none=True)
            yield from records
            set_training(model)


def _record(
    number: int, due: Due, rate: float, tokens: int, numbers: list[float], seconds: float, settled: bool
) -> Step:
    """Return the record of a step whose loss and norm are known, and finite."""
    value, norm = numbers
    require_finite(value, norm, number, due.rows.tolist(), _RATE)
    return Step(number, due.passes, value, norm, rate, len(due.rows), tokens, seconds, settled)


def finite_norm(
    optimizer: Stepping, loss: float, number: int, rows: Sequence[int], rate_is_called: str
) -> float:
    """Return the norm of the gradients of a step, which may be taken.

    Args:
        optimizer: whose gradients are complete.
        loss: of the step.
        number: of the step, from 1.
        rows: of the step.
        rate_is_called: the name of the learning rate where the user set it.

    Raises:
        Diverged: the loss or the norm is not finite.
    """
    norm = optimizer.gradient_norm()
    require_finite(loss, norm, number, rows, rate_is_called)
    return norm


def require_finite(loss: float, norm: float, number: int, rows: Sequence[int], rate_is_called: str) -> None:
    """Refuse a step whose loss or norm is not finite; arguments as of `finite_norm`."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"step {number}: loss {loss}, gradient norm {norm}",
            rows=sorted(rows),
            step=number,
            fix=f"look at these rows, or lower {rate_is_called}; the last checkpoint is finite",
        )


def _accumulate(
    model: nn.Module,
    due: Due,
    loss: Loss,
    plan: Plan,
    accelerator: Accelerator,
    number: int,
    features: KeptFeatures | None,
    forward: Forward,
    where: torch.device,
) -> tuple[Tensor, int]:
    """Run forward and backward over this rank's micro-batches; return the step's loss, kept ``where``, and tokens."""
    examples, rows = due.source, due.rows
    device, ranks, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    weights = loss.weights(examples.targets_of(rows))
    parts = micro_batches(rows, plan.micro_batch or len(rows), rank, ranks)
    total, tokens = torch.zeros((), dtype=torch.float64, device=where), 0
    # A rank without examples still takes part in the exchange of gradients, with a loss of zero.
    for index, part in enumerate(parts or [rows[:1]]):
        batch = examples.batch(part, device)
        last = index == max(0, len(parts) - 1)
        place = f"step {number}, micro-batch of {batch.size}"
        with (
            memory_for(place, SMALLER_STEPS),
            contextlib.nullcontext() if last else accelerator.no_sync(model),
        ):
            kept = features.reading(batch) if features is not None else contextlib.nullcontext()
            with kept, dropout_seed(device, plan.seed, number - 1, index, rank):
                keys = example_keys(plan.seed, number - 1, part)
                outputs, targets = forward(model, batch, plan.autocast, keys)
            value = sum(
                (
                    term.total * (term.coefficient / weights[term.name] if weights[term.name] else 0.0)
                    for term in loss.terms(outputs, targets)
                ),
                start=torch.zeros((), device=device),
            )
            if not parts:
                value = value * 0.0
            # DistributedDataParallel averages gradients over ranks; ours are shares of one sum. Not through
            # accelerate, which would divide by an accumulation count that a launcher may have left in the environment.
            (value * ranks).backward()
        total += value.detach().to(where)
        tokens += batch.num_tokens if parts else 0
    if ranks > 1:
        both = torch.stack([total, total.new_tensor(tokens)]).to(device)
        summed = torch.as_tensor(accelerator.reduce(both, reduction="sum")).cpu()
        total, tokens = summed[0], int(summed[1])
    return total, tokens
