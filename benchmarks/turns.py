"""Two or more trainings side by side: each in a process of its own, in which it sleeps between its turns.

So whatever else the machine does falls on all of them alike, and none finds the caches of another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from memory import peak_mib
from transformers import TrainerCallback, TrainingArguments

RESAMPLES = 10_000
ENDLESS = 1_000_000
"""Steps of a training that is ended from outside."""


class Turns:
    """A worker's side of taking turns: a number of steps comes in, what each took and read goes out."""

    def wait(self) -> None:
        """Wait for the next turn; end the process when there is none."""
        if not (line := sys.stdin.readline()):
            os._exit(0)  # from within the Trainer: nothing is to be saved or told
        self.steps, self.seconds = int(line), list[float]()
        self.tokens, self.places = list[int](), list[int]()
        self.mark = time.perf_counter()

    @property
    def last(self) -> bool:
        """Whether the step that is being taken ends the turn."""
        return len(self.seconds) == self.steps - 1

    def step_ended(self, tokens: int = 0, places: int = 0) -> None:
        """Take the time of a step; after the last step of the turn, tell and wait.

        Args:
            tokens: that it read.
            places: of its batch, those of padding included.
        """
        now = time.perf_counter()
        self.seconds.append(now - self.mark)
        self.tokens.append(tokens)
        self.places.append(places)
        self.mark = now
        if len(self.seconds) == self.steps:
            told = {"seconds": self.seconds, "tokens": self.tokens, "places": self.places}
            print(json.dumps({**told, "peak_mib": peak_mib()}), flush=True)
            self.wait()


class TurnsOfTrainer(TrainerCallback):
    """The same within a Trainer.

    Args:
        turns: of the worker.
        size: tells tokens and places of the step that has ended.
    """

    reads_weights = False

    def __init__(self, turns: Turns, size: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        self.turns, self.size = turns, size

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Wait for the first turn."""
        self.turns.wait()

    def on_step_end(self, *_: Any, optimizer: Any, **__: Any) -> None:
        """Take the time of a step."""
        if self.turns.last and hasattr(optimizer, "flush"):
            optimizer.flush()  # no step is left for later
        self.turns.step_ended(*self.size())


class Worker:
    """A side in a process of its own.

    Args:
        script: the benchmark, which with these words takes turns.
        words: of its command line.
        environment: what is different there.
    """

    def __init__(self, script: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip

    def turn(self, steps: int) -> dict[str, Any]:
        """Return what some steps took and read, and the largest memory of the process so far in MiB."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise SystemExit("a side has ended early; its error stands above")
        return json.loads(line)

    def end(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def take_turns(workers: Mapping[str, Worker], turns: int, steps: int) -> dict[str, list[dict[str, Any]]]:
    """Return what every side tells of each turn; the first, which is for caches to fill, is left out.

    Each time they come in another order, so that none always follows the same one.
    """
    told: dict[str, list[dict[str, Any]]] = {side: [] for side in workers}
    for turn in range(turns + 1):
        for side in np.random.default_rng(turn).permutation(list(workers)):
            told[side].append(workers[side].turn(steps))
    for worker in workers.values():
        worker.end()
    return {side: each[1:] for side, each in told.items()}


def times_faster(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Return the median over the turns of the ratio of two costs, with its 95 % interval over resampled turns."""
    ratios = np.array(slow) / np.array(fast)
    random = np.random.default_rng(0)
    drawn = np.median(ratios[random.integers(len(ratios), size=(RESAMPLES, len(ratios)))], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def trainer_arguments(
    folder: str, steps: int, batch: int, rate: float, decay: float, **more: Any
) -> TrainingArguments:
    """Return the settings of a Trainer that takes our steps with our optimiser, and saves nothing."""
    return TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=batch, learning_rate=rate,
        weight_decay=decay, lr_scheduler_type="linear", max_grad_norm=1.0, save_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, **more,
    )  # fmt: skip
