"""AdamW in C: what ``source/adamw.c`` and ``source/gradients.c`` do, for tensors of torch.

One step t with rate ``r``, weight decay ``d`` and gradient ``g`` (Loshchilov & Hutter 2019)::

    m = b1 m + (1 - b1) g
    v = b2 v + (1 - b2) g²
    w = w (1 - r d) - (r / (1 - b1^t)) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)

in IEEE float32, the same operations in the same order on every path and at every instruction level; numbers below
1.2e-38 are zero. Tensors must be contiguous, on the CPU and float32 (rows and places int64): only shapes are checked.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftlm.kernels.library import Library

# Laid out as in adamw.h.
_STEP = np.dtype([("keep", "f4"), ("size", "f4"), ("inverse_root_correction", "f4")])
_PARAMETER = np.dtype(
    [
        *((name, "u8") for name in ("weights", "gradient", "first", "second")),
        *((name, "i8") for name in ("count", "chunk")),
        ("step", _STEP),
    ],
    align=True,
)
_MATRIX = np.dtype(
    [
        *((name, "u8") for name in ("weights", "first", "second", "done")),
        *((name, "i8") for name in ("rows", "width")),
        ("steps", "u8"),
        *((name, "i8") for name in ("first_step", "now")),
    ]
)
# Numbers of a gradient whose squares are summed together where it is not a matrix.
_CHUNK = 4096


class Moving(NamedTuple):
    """One parameter about to take a step.

    Args:
        weights: any shape; changed in place, as are the moments ``first`` and ``second`` of the same shape.
        gradient: of the same shape, left alone.
        step: of `step_numbers`.
    """

    weights: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    step: tuple[float, float, float]


def step_numbers(
    rate: float, weight_decay: float, betas: tuple[float, float], number: int
) -> tuple[float, float, float]:
    """Return what step ``number`` (1-based) multiplies with: keep, size and inverse root of the correction."""
    return (
        1.0 - rate * weight_decay,
        rate / (1.0 - betas[0] ** number),
        1.0 / math.sqrt(1.0 - betas[1] ** number),
    )


class StepHistory:
    """The numbers of all steps since some step: what rows that are late have to take yet.

    Args:
        first_step: steps taken before.
    """

    def __init__(self, first_step: int) -> None:
        self.first_step = self.now = first_step
        self._steps = np.empty(256, dtype=_STEP)

    def append(self, step: tuple[float, float, float]) -> None:
        """Add the numbers of step ``now + 1``."""
        taken = self.now - self.first_step
        if taken == len(self._steps):
            self._steps = np.concatenate([self._steps, np.empty_like(self._steps)])
        self._steps[taken] = step
        self.now += 1

    @property
    def address(self) -> int:
        """Where the numbers of step ``first_step + 1`` lie."""
        return self._steps.ctypes.data


class Matrix(NamedTuple):
    """Weights [rows, width] whose rows may be late.

    Args:
        weights: changed in place, as are the moments.
        first: [rows, width].
        second: [rows, width].
        done: int64 [rows], the last step that each row has taken.
        history: of all steps that a row may have missed.
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    done: Tensor
    history: StepHistory

    def described(self) -> NDArray[Any]:
        """Return addresses and sizes as C reads them."""
        rows, width = self.weights.shape
        return np.array(
            [
                (
                    self.weights.data_ptr(),
                    self.first.data_ptr(),
                    self.second.data_ptr(),
                    self.done.data_ptr(),
                    rows,
                    width,
                    self.history.address,
                    self.history.first_step,
                    self.history.now,
                )
            ],
            dtype=_MATRIX,
        )


class AdamWKernels:
    """The compiled functions for one pair of betas and one epsilon.

    Args:
        library: opened by `graftlm.kernels.library.load`.
        betas: of the two moments.
        epsilon: added to the root of the second.

    Raises:
        MemoryError: by every method, when there is no memory for its scratch buffers; nothing has changed then.
    """

    def __init__(self, library: Library, betas: tuple[float, float], epsilon: float) -> None:
        self.betas = betas
        address, count, scale = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        first, second = betas
        self._settings = np.array([first, 1.0 - first, second, 1.0 - second, epsilon], dtype=np.float32)
        self._norm = library.kernel("graft_squared_norm", [address, count, address])
        self._add_rows = library.kernel("graft_add_rows", [address, address, count, count, address])
        self._update = library.kernel("graft_adamw_update", [address, count, address, scale])
        self._catch_up = library.kernel("graft_adamw_catch_up", [address, address, address, count])
        self._update_rows = library.kernel(
            "graft_adamw_update_rows", [address, address, address, count, address, scale]
        )

    def squared_norm(self, gradients: Sequence[Tensor]) -> float:
        """Return the sum of all squares, in double and in an order that no number of threads changes.

        Rows of zeros change no bit of it, so a matrix may be given without them.
        """
        table = np.array(
            [(0, each.data_ptr(), 0, 0, each.numel(), _chunk(each), (0.0, 0.0, 0.0)) for each in gradients],
            dtype=_PARAMETER,
        )
        result = ctypes.c_double()
        self._norm(table.ctypes.data, len(table), ctypes.addressof(result))
        return result.value

    def add_rows(self, sums: Tensor, places: Tensor, values: Tensor) -> None:
        """Do ``sums[places[i]] += values[i]`` for i = 0, 1, ... in this order.

        Args:
            sums: [rows, width], changed in place.
            places: int64 [count], each below ``rows``.
            values: [count, width].
        """
        count, width = values.shape
        self._add_rows(values.data_ptr(), places.data_ptr(), count, width, sums.data_ptr())

    def update(self, parameters: Sequence[Moving], gradient_scale: float) -> None:
        """Let parameters take a step with their gradients times ``gradient_scale``."""
        table = np.array(
            [
                (
                    each.weights.data_ptr(),
                    each.gradient.data_ptr(),
                    each.first.data_ptr(),
                    each.second.data_ptr(),
                    each.weights.numel(),
                    _chunk(each.weights),
                    each.step,
                )
                for each in parameters
            ],
            dtype=_PARAMETER,
        )
        self._update(table.ctypes.data, len(table), self._settings.ctypes.data, gradient_scale)

    def catch_up(self, matrix: Matrix, rows: Tensor) -> None:
        """Let the given rows, int64 of any shape and with repetitions, take the steps they missed.

        A missed step is one with a gradient of zero. Numbers that are no row are passed over.
        """
        described = matrix.described()
        self._catch_up(described.ctypes.data, self._settings.ctypes.data, rows.data_ptr(), rows.numel())

    def update_rows(self, matrix: Matrix, rows: Tensor, gradients: Tensor, gradient_scale: float) -> None:
        """Let rows that have taken all steps but the last of the history take that one.

        Args:
            matrix: whose history already has the step.
            rows: int64 [count], all different.
            gradients: [count, width].
            gradient_scale: factor on the gradients.
        """
        described = matrix.described()
        self._update_rows(
            described.ctypes.data,
            self._settings.ctypes.data,
            rows.data_ptr(),
            rows.numel(),
            gradients.data_ptr(),
            gradient_scale,
        )


def suits(parameter: Tensor) -> bool:
    """Whether a parameter is what these kernels work on."""
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32 and parameter.is_contiguous()


def _chunk(gradient: Tensor) -> int:
    return max(1, gradient.shape[-1] if gradient.ndim == 2 else _CHUNK)
