"""Steps whose numbers are read later: who waits for each number keeps an accelerator waiting for the next step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from graftlm.training.optimisation import Stepping
from graftlm.training.order import Due
from graftlm.training.torch_adamw import TorchAdamW

LATE_STEPS = 8
"""So many may be on their way to a GPU, enough to hide what the CPU does between two of them."""


@dataclass(frozen=True)
class Late:
    """How late the numbers of a step may be read.

    Args:
        steps: at most so many steps have been taken after one whose numbers are not known.
        settles: whether somebody does something with the weights after the step of this number (from 1). Then all is
            read before the record of it is handed on, and no later step has begun.
        whole: takes the step of this number, where it can at once, and returns its loss and norm, on the device, and
            tokens; None where it cannot. See `graftlm.training.graphs`.
    """

    steps: int
    settles: Callable[[int], bool]
    whole: Callable[[int, Due], tuple[Tensor, int] | None] = lambda number, due: None


def late_steps(optimizer: Stepping, accelerator: Accelerator) -> int:
    """Return how late numbers may be read: not at all where nothing is gained, or where a step cannot be skipped alone.

    Processes that exchange gradients have to agree about each step; Muon and Adafactor decide on the CPU.
    """
    able = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    return LATE_STEPS if able and isinstance(optimizer, TorchAdamW) else 0


Record = TypeVar("Record")


class Pending(Generic[Record]):
    """Steps that were taken and whose numbers are on their way, the oldest first.

    Args:
        late: how many there may be.
        began: when the first of them did, by `time.perf_counter`.
    """

    def __init__(self, late: Late, began: float) -> None:
        self._late, self._known_at = late, began
        self._steps: deque[tuple[_Numbers, Callable[[list[float], float, bool], Record]]] = deque()

    def add(
        self, number: int, numbers: Tensor, known: Callable[[list[float], float, bool], Record]
    ) -> Iterator[Record]:
        """Add a step and yield the records of those that are known by now.

        Args:
            number: of the step, from 1.
            numbers: of the step, on the device.
            known: makes the record of the step from its numbers, the seconds that it took (of several that were waited
                for together, each an equal part) and whether no later step has begun; it may refuse them.
        """
        self._steps.append((_Numbers(numbers), known))
        most = 0 if self._late.settles(number) else self._late.steps
        due = [self._steps.popleft() for _ in range(len(self._steps) - most)]
        read = [(sent.read(), record) for sent, record in due]
        now = time.perf_counter()
        seconds = (now - self._known_at) / max(1, len(due))
        self._known_at = now if due else self._known_at
        for behind, (values, record) in enumerate(read, 1 - len(read)):
            yield record(values, seconds, behind == 0 and not self._steps)
        if not self._steps:
            # What was done with the settled weights is not time of the next step.
            self._known_at = time.perf_counter()


class _Numbers:
    """Numbers on their way from a device, which nobody waits for until they are read."""

    def __init__(self, numbers: Tensor) -> None:
        self._there = torch.cuda.Event() if numbers.device.type == "cuda" else None
        self._numbers = numbers.to("cpu", non_blocking=True)
        if self._there is not None:
            self._there.record()

    def read(self) -> list[float]:
        if self._there is not None:
            self._there.synchronize()
        return self._numbers.tolist()
