"""AdamW on our kernels: clipping inside the step, and embedding rows that take their steps when they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from graftlm.kernels.adamw import AdamWKernels, Moving, step_numbers
from graftlm.kernels.library import Library
from graftlm.training.lazy_rows import LazyRows
from graftlm.training.memory import SMALLER_MODEL, memory_for

_LARGEST_FLOAT32 = torch.finfo(torch.float32).max
_NOT_OURS = ("amsgrad", "maximize", "capturable", "differentiable")


class KernelAdamW(Optimizer):
    """AdamW with decoupled decay and bias correction, for contiguous float32 parameters on the CPU.

    It answers `graftlm.training.optimisation.Stepping`; groups and state are those of `torch.optim.AdamW`, which can
    load them, and the other way round. The formula is that of `graftlm.kernels.adamw`.

    Args:
        groups: as for `torch.optim.AdamW`; each ``weight_decay`` and ``lr`` may change from step to step.
        library: the compiled kernels.
        betas: of the two moments.
        eps: added to the root of the second.
        embedding: a module of `lazy_embedding` whose rows are to be late while the optimiser is `attached`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        library: Library,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        embedding: nn.Embedding | None = None,
    ) -> None:
        super().__init__(groups, {"lr": 1e-3, "betas": betas, "eps": eps, "weight_decay": 1e-2})
        self._library, self._embedding = library, embedding
        self._rows: LazyRows | None = None

    @contextmanager
    def attached(self) -> Generator[None]:
        """Let rows of the embedding be late within; see `LazyRows.attached` for who sees them up to date.

        Whoever else reads its weights, or its moments, calls `flush` first.
        """
        if self._embedding is None:
            yield
            return
        weight = self._embedding.weight
        group = next(group for group in self.param_groups if any(each is weight for each in group["params"]))
        with memory_for("the moments of AdamW", SMALLER_MODEL):
            state = self._state_of(weight)
        self._rows = LazyRows(
            self._embedding, self._kernels(group), state["exp_avg"], state["exp_avg_sq"], int(state["step"])
        )
        try:
            with self._rows.attached():
                yield
        finally:
            self._rows = None

    def flush(self) -> None:
        """Bring late rows up to date, weights and moments."""
        if self._rows is not None:
            self._rows.flush()

    def gradient_norm(self) -> float:
        """Return the global L2 norm of the gradients, which are left alone.

        As in float32, where a square beyond 3.4e38 is infinite, so is the norm: second moments would be.
        """
        gradients = [
            gradient
            for group in self.param_groups
            for parameter in group["params"]
            if (gradient := self._gradient_of(parameter)) is not None
        ]
        squared = self._kernels(self.param_groups[0]).squared_norm(gradients)
        return math.sqrt(squared) if not squared > _LARGEST_FLOAT32 else math.inf

    def clip_and_step(self, norm: float, limit: float | None) -> None:
        """Take one step with the gradients times ``min(1, limit / (norm + 1e-6))``, as `clip_grad_norm_` has it."""
        self._step(1.0 if limit is None else min(1.0, limit / (norm + 1e-6)))

    def clip(self, norm: float, limit: float) -> None:
        """Scale the gradients as `clip_and_step` would, for who wants to see them; not while `attached`."""
        scale = min(1.0, limit / (norm + 1e-6))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step with the gradients as they are; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step(1.0)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, those of late rows too."""
        super().zero_grad(set_to_none)
        if self._rows is not None:
            self._rows.gradient = None

    def state_dict(self) -> dict[str, Any]:
        """Return groups and state, all rows up to date."""
        self.flush()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and state of this class or of `torch.optim.AdamW`.

        Raises:
            ValueError: they ask for a variant (AMSGrad and the like) that is not written here.
            RuntimeError: rows are late; load before the training begins.
        """
        asked = sorted(
            {name for group in state_dict["param_groups"] for name in _NOT_OURS if group.get(name)}
        )
        if asked:
            raise ValueError(f"the state is of AdamW with {', '.join(asked)}, which is not supported here")
        if self._rows is not None:
            raise RuntimeError("optimiser state cannot be loaded while embedding rows are late")
        super().load_state_dict(state_dict)

    def _step(self, gradient_scale: float) -> None:
        for group in self.param_groups:
            numbers: dict[int, tuple[float, float, float]] = {}
            moving: list[Moving] = []
            for parameter in cast(list[nn.Parameter], group["params"]):
                gradient = self._gradient_of(parameter)
                if gradient is None:
                    continue
                state = self._state_of(parameter)
                state["step"] += 1
                number = int(state["step"])
                if number not in numbers:
                    numbers[number] = step_numbers(group["lr"], group["weight_decay"], group["betas"], number)
                if self._is_late(parameter):
                    assert self._rows is not None
                    self._rows.step(numbers[number], gradient_scale)
                else:
                    moving.append(
                        Moving(parameter, gradient, state["exp_avg"], state["exp_avg_sq"], numbers[number])
                    )
            self._kernels(group).update(moving, gradient_scale)

    def _gradient_of(self, parameter: Tensor) -> Tensor | None:
        if self._is_late(parameter):
            assert self._rows is not None
            return None if self._rows.gradient is None else self._rows.gradient.values
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise RuntimeError("sparse gradients are only for the embedding this optimiser is attached to")
        return None if parameter.grad is None else parameter.grad.contiguous()

    def _is_late(self, parameter: Tensor) -> bool:
        return self._rows is not None and self._embedding is not None and parameter is self._embedding.weight

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state

    def _kernels(self, group: dict[str, Any]) -> AdamWKernels:
        return AdamWKernels(self._library, group["betas"], group["eps"])
