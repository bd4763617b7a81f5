"""The one story of a training: fit -> judge -> keep the best -> checkpoint. Every verb that trains tells it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from graftlm.data.places import first_places
from graftlm.errors import Diverged, Interrupted, RunError
from graftlm.kernels.library import describe, said_of_missing
from graftlm.models.flat.probe import make_flat
from graftlm.models.gradient_checkpointing import checkpoint_layers
from graftlm.objectives._objective import Loss
from graftlm.progress import Progress
from graftlm.rundir import RunDirectory, sync_folder
from graftlm.subject import Subject
from graftlm.training.averaging import AveragedWeights
from graftlm.training.checkpoint import copy_weights, named_weights, newest_checkpoint, save_checkpoint
from graftlm.training.conditions import changed, conditions
from graftlm.training.graphs import CudaRecorder, GraphedSteps
from graftlm.training.late import Late, late_steps
from graftlm.training.loop import Step, fit
from graftlm.training.memory import place
from graftlm.training.signals import StopRequest
from graftlm.training.step_log import StepLog
from graftlm.training.stopping import BestSoFar
from graftlm.training.torch_adamw import TorchAdamW

CHECKPOINT_SECONDS = 60.0


class _StopNow(Exception):
    """A signal arrived during an evaluation."""


Trained = TypeVar("Trained", bound=Subject)


@dataclass(frozen=True)
class Fitted:
    """What came of the training; the model of the `Subject` has the weights to keep.

    Args:
        steps: optimiser steps done.
        best_step: the step whose weights were kept.
        seconds: of training and validation, over all sessions.
        selected: whether the validation rows chose anything (a checkpoint or the time to stop).
    """

    steps: int
    best_step: int
    seconds: float
    selected: bool


class TrainingRun(Generic[Trained]):
    """One training in a run directory: `restore` where it goes on, then `execute`. Only rank 0 writes.

    Making one does everything that can refuse and writes nothing, so that a refused run leaves its directory as it was.
    """

    def __init__(
        self, subject: Trained, run: RunDirectory, progress: Progress, accelerator: Accelerator
    ) -> None:
        self.subject, self.run, self.progress, self.accelerator = subject, run, progress, accelerator
        self.options, self.plan, self.model = subject.options, subject.plan, subject.model
        self.best_weights: dict[str, Tensor] | None = None
        self.best = BestSoFar(greater_is_better=True, patience_evaluations=self.options.patience_evaluations)
        self.earlier_seconds = 0.0
        self.began = time.perf_counter()
        self.saved_at = time.perf_counter()
        self.log = StepLog(run.steps, accelerator.is_main_process)
        place(self.model, accelerator.device)
        self.optimizer = subject.optimizer()
        self.averages = AveragedWeights(self.model, subject.averaging) if subject.averaging else None
        self.padded_because = self._lay_flat()
        if self.options.gradient_checkpointing:
            checkpoint_layers(self.model)
        self.identity = subject.identity()
        self.state: dict[str, Any] | None = None
        self.about_features: dict[str, str] = {}

    def _lay_flat(self) -> str:
        """Let the model work without padding where it can; return why it does not, or nothing."""
        asked = self.options.execution == "padded"
        reason = "the recipe asks for it" if asked else make_flat(self.model)
        if reason and not asked:
            self.progress.say(f"this base model works on padded batches: {reason}")
        for sentence in said_of_missing(self.accelerator.device):
            self.progress.say(sentence)
        return reason

    def execute(self) -> Fitted:
        """Train with validation and checkpoints, and return the model with the weights to keep.

        Raises:
            Interrupted: after a signal, when a checkpoint of the last whole step was written.
            Diverged: at the first non-finite loss or gradient.
        """
        resumed = self.state or {"step": 0, "validation_due": False}
        self.log.cut(int(resumed["step"]), bool(resumed["validation_due"]))
        with StopRequest() as stop:
            steps = self._train(stop)
        if self.options.keeps_best and self.best_weights is not None:
            copy_weights(self.model, self.best_weights)
        if self.averages is not None:
            self.averages.take_over(self.model)
        validated = bool(self.subject.validations())
        return Fitted(
            steps,
            self.best.step if validated and self.options.keeps_best else steps,
            self.earlier_seconds + time.perf_counter() - self.began,
            validated and self._chooses,
        )

    @property
    def _chooses(self) -> bool:
        """Whether judgements choose the weights or the time to stop."""
        return self.options.keeps_best or self.options.patience_evaluations is not None

    def accept(self, folder: Path, fitted: Fitted, **facts: Any) -> None:
        """Let a saved and proved folder be the model of the run; the record says how it came about."""
        run = self.run
        shutil.rmtree(run.model, ignore_errors=True)  # that of a run which was extended
        folder.rename(run.model)
        sync_folder(run.path)
        run.update_record(
            steps=fitted.steps,
            kept_step=fitted.best_step,
            training_seconds=round(fitted.seconds, 3),
            execution={
                "path": "padded" if self.padded_because else "flat",
                "because": self.padded_because,
                "kernels": describe(),
            },
            **facts,
        )

    def finish(self) -> None:
        """Say that the run is finished; its newest checkpoint stays, so that it can be extended."""
        self.run.update_record(state="finished")
        for old in sorted(self.run.checkpoints.glob("step-*"))[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def _train(self, stop: StopRequest) -> int:
        """Run the loop; after each step log, validate, save and look for signals. Return the steps done."""
        subject, plan, state = self.subject, self.plan, self.state
        marks = subject.validations()
        wrapped: Any = (
            self.accelerator.prepare(self.model) if self.accelerator.num_processes > 1 else self.model
        )
        start = int(state["step"]) if state else 0
        if state and state["validation_due"]:
            self._validate(start, stop)
        self.progress.stage("training")
        number = start

        def settles(done: int) -> bool:
            """Whether something is done with the weights after a step."""
            return (
                done in marks
                or done == plan.total_steps
                or stop.signal_number is not None
                or self._save_due(done)
            )

        # A run that had stopped by its patience, and was only interrupted afterwards, takes no step more.
        steps = () if self.best.exhausted else self._fit(wrapped, start, settles)
        for step in self._steps(steps):
            number = step.number
            if self.averages is not None:
                self.averages.update(self.model)
            self.log.step(step)
            self.progress.advance(
                number, plan.total_steps, loss=step.loss, epoch=step.epoch,
                best=self.best.value if self._chooses else None,
                tokens_per_second=step.tokens / step.seconds,
            )  # fmt: skip
            if not step.settled:
                continue
            due = number in marks
            if self._stopping(stop):
                self._save(number, validation_due=due)
                self._raise_interrupted(stop, number)
            if due:
                self._validate(number, stop)
            if self.best.exhausted:
                self.progress.say(
                    f"stopped at step {number}: {self.best.without_improvement} validations without improvement"
                )
                break
            if self._save_due(number):
                self._save(number)
        if number > start or state is None or state["validation_due"]:
            self._save(number)
        if self._stopping(stop):
            self._raise_interrupted(stop, number)
        return number

    def _fit(self, model: nn.Module, start: int, settles: Callable[[int], bool]) -> Iterator[Step]:
        """Take the steps, late and as graphs where the device makes that worthwhile."""
        subject = self.subject
        loss, features = subject.loss(), subject.kept_features(self.run.path)
        # Only known now, and how much of the disk is free may have decided it.
        self.about_features = {"features": "computed in each pass" if features is None else "kept"}
        if self.state is not None:
            for sentence in changed(self.state["conditions"], self.about_features):
                self.progress.warn(sentence)
        most = late_steps(self.optimizer, self.accelerator) if self.averages is None else 0
        late = Late(most, settles) if most else None
        if late is not None and features is None and (graphs := self._graphs(loss)) is not None:
            late = replace(late, whole=graphs)
        return fit(
            model, subject.examples, loss, self.optimizer, self.plan, self.accelerator, start, features,
            subject.forward, late,
        )  # fmt: skip

    def _graphs(self, loss: Loss) -> GraphedSteps | None:
        """Return what replays whole steps, where the device can and the recipe lets it."""
        wanted = self.options.execution == "auto" and not self.padded_because
        # Before, a recording that fails leaves its memory unusable.
        wanted = wanted and torch.__version__ >= "2.12"
        if not wanted or self.accelerator.device.type != "cuda" or not isinstance(self.optimizer, TorchAdamW):
            return None
        device = self.accelerator.device
        record = CudaRecorder(device)
        return GraphedSteps(self.model, loss, self.optimizer, self.plan, device, record, self.progress.say)

    def _steps(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Hand the steps on; a diverged one names the rows of the user's file."""
        try:
            yield from steps
        except Diverged as error:
            assert error.step is not None
            due = next(self.subject.plan.order.steps(self.subject.examples, error.step - 1))
            rows = first_places(self.subject.places(due))
            raise Diverged(
                f"{error.what}; rows of this step: {rows}", rows=error.rows, step=error.step, fix=error.fix
            ) from None

    def _validate(self, number: int, stop: StopRequest) -> None:
        """Judge the weights, remember the best; a signal saves the step and stops."""

        def look(_: int) -> None:
            if stop.signal_number is not None and self.accelerator.num_processes == 1:
                raise _StopNow

        try:
            with self._averaged():
                found = self.subject.judge(look)
        except _StopNow:
            self._save(number, validation_due=True)
            self._raise_interrupted(stop, number)
            return
        self.best.greater_is_better = found.greater_is_better
        if self.best.update(number, found.value) and self.options.keeps_best:
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(self.model).items()}
        self.log.append({"step": number, "validation": {found.metric: found.value}})
        self.progress.say(
            f"step {number}: validation {found.metric} {found.value:.4f}"
            + (" (best so far)" if self._chooses and self.best.step == number else "")
        )

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Let the model have the averaged weights inside a block, where weights are averaged."""
        return contextlib.nullcontext() if self.averages is None else self.averages.swapped(self.model)

    def restore(self, extending: bool) -> None:
        """Continue from the newest valid checkpoint of the run, after comparing with what it was made from.

        Args:
            extending: the run may be longer than what the checkpoint was made with.
        """
        checkpoint = newest_checkpoint(self.run.checkpoints, self.progress.warn)
        before = checkpoint.state["identity"] if checkpoint else self.run.read_record()["identity"]
        changes = self.subject.changes(before, self.identity, extending)
        if changes:
            raise RunError(
                "this run cannot be continued exactly, because something it depends on has changed:\n    "
                + "\n    ".join(changes),
                where=str(self.run.path),
                fix="restore what changed, or start a new run",
            )
        if checkpoint is None:
            if extending:
                raise RunError(
                    "there is no valid checkpoint to extend this run from", where=str(self.run.path)
                )
            self.progress.warn("no valid checkpoint was found; the run starts again from step 0")
            return
        for sentence in changed(checkpoint.state["conditions"], self._conditions()):
            self.progress.warn(sentence)
        best = checkpoint.restore(self.model, self.optimizer)
        if self.averages is not None:
            self.averages.restore(checkpoint.averaged())
        self.best = BestSoFar(**checkpoint.state["best"])
        total = self.plan.total_steps
        if checkpoint.state.get("total_steps", total) != total:  # extended: a new chance to improve
            self.best.without_improvement = 0
        if best is not None:
            self.best_weights = {name: tensor.to(self.accelerator.device) for name, tensor in best.items()}
        elif self.best.step == checkpoint.step and self.best.step > 0:
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(self.model).items()}
        self.earlier_seconds = float(checkpoint.state["seconds"])
        self.progress.say(f"continuing from {checkpoint.path.name}")
        self.state = checkpoint.state

    def _conditions(self) -> dict[str, Any]:
        return conditions(
            self.accelerator.device,
            bool(self.padded_because),
            str(self.plan.autocast or torch.float32),
            self.accelerator.num_processes,
            **self.about_features,
        )

    def _save_due(self, number: int) -> bool:
        every = self.options.checkpoint_steps
        if every is not None:
            return number % every == 0
        due = time.perf_counter() - self.saved_at >= CHECKPOINT_SECONDS
        return bool(self._agree(due))

    def _save(self, number: int, validation_due: bool = False) -> None:
        if self.accelerator.is_main_process:
            state = {
                "identity": self.identity,
                "total_steps": self.plan.total_steps,
                "best": self.best.dump(),
                "validation_due": validation_due,
                "conditions": self._conditions(),
                "seconds": self.earlier_seconds + time.perf_counter() - self.began,
            }
            best = None if self.best.step == number else self.best_weights
            averaged = None if self.averages is None else self.averages.tensors()
            save_checkpoint(self.run.checkpoints, number, self.model, self.optimizer, best, state, averaged)
        self.accelerator.wait_for_everyone()
        self.saved_at = time.perf_counter()

    def _stopping(self, stop: StopRequest) -> bool:
        return bool(self._agree(stop.signal_number is not None))

    def _agree(self, flag: bool) -> bool:
        """Whether any rank says yes: all ranks must save, validate and stop at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(torch.as_tensor(self.accelerator.reduce(votes, reduction="sum")) > 0)

    def _raise_interrupted(self, stop: StopRequest, number: int) -> None:
        raise Interrupted(
            f"stopped at step {number}; the checkpoint is complete",
            signal_number=stop.signal_number or 15,
            fix=f"continue with: {self.subject.resume_command} {self.run.path}",
        )
