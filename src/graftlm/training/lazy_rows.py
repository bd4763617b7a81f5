"""Embedding rows that take their optimiser steps when they are read, with the bits they would have had in time.

A batch reads a few hundred of the 30,000 rows of an embedding matrix, but AdamW moves them all: without a gradient the
moments fade and what is left of them moves the weights on, weight decay included. Here only the rows of the batch take
a step. Every other row is late, and takes its missed steps, one by one and with the rates they had, before anybody
reads it (docs/decisions/0013-late-rows.md).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graftlm.errors import ConfigurationError
from graftlm.kernels.adamw import AdamWKernels, Matrix, StepHistory, suits
from graftlm.kernels.library import VARIABLE

# Below this a dense step costs less than looking which rows are late.
FEWEST_ROWS = 4096


class RowGradient(NamedTuple):
    """The gradient of the rows that have one.

    Args:
        rows: int64 [count], ascending.
        values: [count, width].
    """

    rows: Tensor
    values: Tensor


class LazyRows:
    """The weights of an embedding of which only the rows that are read are up to date.

    Args:
        module: the embedding.
        kernels: with the betas of its parameter group.
        first: moments, [rows, width].
        second: moments, [rows, width].
        steps_taken: by every row.
    """

    def __init__(
        self, module: nn.Embedding, kernels: AdamWKernels, first: Tensor, second: Tensor, steps_taken: int
    ) -> None:
        self.gradient: RowGradient | None = None
        self._module, self._kernels = module, kernels
        done = torch.full((module.num_embeddings,), steps_taken, dtype=torch.int64)
        self._matrix = Matrix(module.weight.detach(), first, second, done, StepHistory(steps_taken))

    @contextmanager
    def attached(self) -> Generator[None]:
        """Within, whoever reads rows through the module, or all of them through a state dict, finds them up to date.

        So does whoever loads a state dict: nothing old is replayed over it. The gradient does not arrive at
        ``weight.grad`` but, summed by row, at `gradient`. Afterwards the module is as it was, and all rows up to date.
        """
        module, was_sparse = self._module, self._module.sparse
        with ExitStack() as stack:
            stack.callback(self.flush)
            for handle in (
                module.register_forward_pre_hook(self._before_reading, with_kwargs=True),
                module.register_state_dict_pre_hook(self._before_all),
                module.register_load_state_dict_pre_hook(self._before_all),
                module.weight.register_post_accumulate_grad_hook(self._collect),
            ):
                stack.callback(handle.remove)
            stack.callback(setattr, module, "sparse", was_sparse)
            module.sparse = True
            yield

    def step(self, numbers: tuple[float, float, float], gradient_scale: float) -> None:
        """Let the rows with a gradient take a step, all others miss it; the gradient is used up.

        Args:
            numbers: of `graftlm.kernels.adamw.step_numbers`.
            gradient_scale: factor on the gradient.
        """
        assert self.gradient is not None
        rows, values = self.gradient
        # They were when they were read; this costs next to nothing and depends on nobody.
        self._kernels.catch_up(self._matrix, rows)
        self._matrix.history.append(numbers)
        self._kernels.update_rows(self._matrix, rows, values, gradient_scale)
        self.gradient = None

    def flush(self) -> None:
        """Bring all rows up to date."""
        matrix = self._matrix
        now = matrix.history.now
        if now > matrix.history.first_step:
            self._kernels.catch_up(matrix, torch.arange(len(matrix.done)))
            self._matrix = matrix._replace(history=StepHistory(now))

    def _before_reading(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids: Tensor = arguments[0] if arguments else named["input"]
        self._kernels.catch_up(self._matrix, ids.to(torch.int64).contiguous())

    def _before_all(self, *_: Any) -> None:
        self.flush()

    def _collect(self, weight: Tensor) -> None:
        """Take over what one backward pass left at ``weight.grad``.

        Rows are summed in the order of their tokens, the sums of several passes in the order of these, both from
        zero: the bits of torch's dense gradient.
        """
        arrived = weight.grad
        weight.grad = None
        if arrived is None or not arrived.is_sparse:
            raise ConfigurationError(
                "the model reads its embedding matrix otherwise than by calling the module, so that no row of it can "
                "be left for later",
                where=VARIABLE,
                fix=f"set the environment variable {VARIABLE}=off, which takes every step in full",
            )
        # The public accessors want a coalesced tensor, and coalescing promises no order.
        tokens, values = torch.ops.aten._indices(arrived)[0], torch.ops.aten._values(arrived)
        summed = self._summed(tokens, values)
        if self.gradient is not None:
            both = zip(self.gradient, summed, strict=True)
            summed = self._summed(*(torch.cat(pair) for pair in both))
        self.gradient = summed

    def _summed(self, tokens: Tensor, values: Tensor) -> RowGradient:
        rows, places = torch.unique(tokens, return_inverse=True)
        sums = torch.zeros(len(rows), self._module.embedding_dim)
        self._kernels.add_rows(sums, places, values.contiguous())
        return RowGradient(rows, sums)


def lazy_embedding(model: nn.Module) -> nn.Embedding | str:
    """Return the input embedding of a model if its rows may be late, else one line that says why not.

    Its rows may be late if nobody can read or move them but through the module, and if that saves time.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        return "several processes exchange dense gradients"
    try:
        embedding: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    except (AttributeError, NotImplementedError):
        return "the model names no input embedding"
    if type(embedding) is not nn.Embedding:
        return f"the input embedding is a {type(embedding).__name__}, not a plain Embedding"
    weight = embedding.weight
    names = [name for name, each in model.named_parameters(remove_duplicate=False) if each is weight]
    if len(names) > 1:
        return f"its weights are shared: {', '.join(names)}"
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if output is not None and getattr(output, "weight", None) is weight:
        return "its weights are those of the output layer"
    if not weight.requires_grad:
        return "it is frozen"
    if not suits(weight):
        return "it is not float32, contiguous and on the CPU"
    if embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return "it rescales rows or gradients (max_norm, scale_grad_by_freq)"
    if embedding.num_embeddings < FEWEST_ROWS:
        return f"it has {embedding.num_embeddings:,} rows; below {FEWEST_ROWS:,} that saves no time"
    return embedding
