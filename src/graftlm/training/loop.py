"""The training loop: a generator that yields one record per optimiser step.

Logging, evaluation, early stopping and saving are ordinary code of the caller, after each ``yield``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from graftlm.errors import Diverged
from graftlm.kernels.keys import example_keys
from graftlm.objectives._objective import Loss
from graftlm.training.batching import Batch, Source, micro_batches
from graftlm.training.frozen import KeptFeatures, set_training
from graftlm.training.memory import SMALLER_MODEL, SMALLER_STEPS, memory_for
from graftlm.training.optimisation import DECAY_SHARE, Stepping, learning_rate_factor, set_learning_rate
from graftlm.training.order import Order
from graftlm.training.outputs import forward_where_targets
from graftlm.training.randomness import dropout_seed


@dataclass(frozen=True)
class Plan:
    """Everything about the steps of a run that is decided before the first one.

    Args:
        total_steps: optimiser steps of the whole run.
            due = next(steps)
            rows = due.rows
            factor = learning_rate_factor(
                number, plan.total_steps, plan.warmup_share, plan.schedule, plan.decay_share
            )
            rate = set_learning_rate(optimizer, factor)
            value, tokens = _accumulate(
                model, due.source, rows, loss, plan, accelerator, number, features, forward
            )
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
        tokens: real tokens of this rank's examples.
        seconds: wall time.
    """

    number: int
    epoch: float
    loss: float
    gradient_norm: float
    learning_rate: float
    examples: int
    tokens: int
    seconds: float


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
) -> Iterator[Step]:
    """Train and yield after every optimiser step, from ``start_step`` (steps already done) to the last.

    The loss of a step is ``sum over terms of coefficient * total / weight`` with totals and weights summed over all
    micro-batches and ranks, so any split of the same examples gives the same update.

    Between steps some weights may be late (see `Stepping.attached`): run the model or take its state dict, or call
    ``optimizer.flush()``. When this generator has ended or was closed, none is.

    A body of which nothing moves reads as in evaluation; with its ``features`` of all examples it is not run at all.

    Raises:
        Diverged: at the first non-finite loss or gradient norm, before the weights are touched.
        MissingResource: the memory does not suffice.
    """
    steps = plan.order.steps(examples, start_step)
    set_training(model)
    with optimizer.attached():
        for number in range(start_step, plan.total_steps):
            began = time.perf_counter()
            due = next(steps)
            rows = due.rows
            factor = learning_rate_factor(
                number, plan.total_steps, plan.warmup_share, plan.schedule, plan.decay_share
            )
            rate = set_learning_rate(optimizer, factor)
            value, tokens = _accumulate(
                model, due.source, rows, loss, plan, accelerator, number, features, forward
            )
            norm = finite_norm(optimizer, value, number + 1, rows.tolist(), "training.learning_rate")
            with memory_for(f"step {number + 1}, the moments of AdamW", SMALLER_MODEL):
                optimizer.clip_and_step(norm, plan.max_gradient_norm)
            optimizer.zero_grad(set_to_none=True)
            yield Step(
                number=number + 1,
                epoch=due.passes,
                loss=value,
                gradient_norm=norm,
                learning_rate=rate,
                examples=len(rows),
                tokens=tokens,
                seconds=time.perf_counter() - began,
            )
            set_training(model)


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
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"step {number}: loss {loss}, gradient norm {norm}",
            rows=sorted(rows),
            fix=f"look at these rows, or lower {rate_is_called}; the last checkpoint is finite",
        )
    return norm


def _accumulate(
    model: nn.Module,
    examples: Source,
    rows: NDArray[np.int64],
    loss: Loss,
    plan: Plan,
    accelerator: Accelerator,
    number: int,
    features: KeptFeatures | None,
    forward: Forward,
) -> tuple[float, int]:
    """Run forward and backward over this rank's micro-batches; return the loss of the step and tokens."""
    device, ranks, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    weights = loss.weights(examples.targets_of(rows))
    parts = micro_batches(rows, plan.micro_batch or len(rows), rank, ranks)
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    # A rank without examples still takes part in the exchange of gradients, with a loss of zero.
    for index, part in enumerate(parts or [rows[:1]]):
        batch = examples.batch(part, device)
        last = index == max(0, len(parts) - 1)
        place = f"step {number + 1}, micro-batch of {batch.size}"
        with (
            memory_for(place, SMALLER_STEPS),
            contextlib.nullcontext() if last else accelerator.no_sync(model),
        ):
            kept = features.reading(batch) if features is not None else contextlib.nullcontext()
            with kept, dropout_seed(device, plan.seed, number, index, rank):
                keys = example_keys(plan.seed, number, part)
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
        total += value.detach().double().cpu()
        tokens += batch.num_tokens if parts else 0
    if ranks > 1:
        total = torch.as_tensor(accelerator.reduce(total.to(device), reduction="sum")).cpu()
    return float(total), tokens
