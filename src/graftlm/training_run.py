"""The one story of a training: prepare -> fit -> evaluate -> keep the best -> save -> prove."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from transformers import PreTrainedModel

from graftlm.errors import Diverged, Interrupted, RunError
from graftlm.preparation import (
    Prepared,
    build_model,
    build_objective,
    build_strategy,
    evaluation_steps,
    make_plan,
    prepare,
)
from graftlm.progress import Progress
from graftlm.recipe import Recipe
from graftlm.run_identity import describe_changes, identity
from graftlm.rundir import RunDirectory, write_bytes
from graftlm.scoring.scores import Scores
from graftlm.training.checkpoint import copy_weights, named_weights, newest_checkpoint, save_checkpoint
from graftlm.training.devices import open_accelerator, resolve_precision
from graftlm.training.evaluation import predict_logits
from graftlm.training.loop import Plan, Step, fit
from graftlm.training.signals import StopRequest
from graftlm.training.stopping import BestSoFar

CHECKPOINT_SECONDS = 60.0


class _StopNow(Exception):
    """A signal arrived during an evaluation."""


@dataclass(frozen=True)
class Fitted:
    """A trained model before it is saved.

    Args:
        prepared: the data it was trained on.
        model: with the weights the recipe wants kept (best or last).
        accelerator: where it is.
        autocast: dtype of its forward passes, None for float32.
        steps: optimiser steps done.
        best_step: the step whose weights were kept.
        seconds: of training and validation, over all sessions.
        selected: whether the validation rows chose anything (a checkpoint or the time to stop).
    """

    prepared: Prepared
    model: PreTrainedModel
    accelerator: Accelerator
    autocast: torch.dtype | None
    steps: int
    best_step: int
    seconds: float
    selected: bool


class TrainingRun:
    """One training in a run directory; `execute` tells its story. Only rank 0 writes."""

    def __init__(
        self, recipe: Recipe, run: RunDirectory, progress: Progress, accelerator: Accelerator | None = None
    ) -> None:
        self.recipe, self.run, self.progress = recipe, run, progress
        self.accelerator = accelerator or open_accelerator(recipe.training.device)
        self.autocast = resolve_precision(recipe.training.precision, self.accelerator.device)
        self.best_weights: dict[str, Tensor] | None = None
        self.best = BestSoFar(
            greater_is_better=True, patience_evaluations=recipe.training.patience_evaluations
        )
        self.earlier_seconds = 0.0
        self.began = time.perf_counter()
        self.saved_at = time.perf_counter()

    def execute(self, data: object = None, resume: bool = False, extending: bool = False) -> Fitted:
        """Prepare, train with validation and checkpoints, and return the model with the weights to keep.

        Args:
            data: rows in memory; None reads ``recipe.data.path``.
            resume: continue from the newest valid checkpoint of the run.
            extending: on resume, ``training.epochs`` may differ from what the checkpoint was made with.

        Raises:
            Interrupted: after a signal, when a checkpoint of the last whole step was written.
            Diverged: at the first non-finite loss or gradient.
        """
        prepared = prepare(self.recipe, data, self.progress)
        plan = make_plan(self.recipe, len(prepared.examples["train"]), self.autocast)
        model = build_model(self.recipe, prepared).to(self.accelerator.device)  # pyright: ignore[reportArgumentType]
        optimizer = build_strategy(self.recipe, model)
        own = identity(self.recipe, prepared)
        state = self._restore(model, optimizer, own, extending) if resume else None
        with StopRequest() as stop:
            steps = self._train(model, optimizer, prepared, plan, own, state, stop)
        if self.recipe.training.keep == "best" and self.best_weights is not None:
            copy_weights(model, self.best_weights)
        validated = "validation" in prepared.examples
        patient = self.recipe.training.patience_evaluations is not None
        return Fitted(
            prepared,
            model,
            self.accelerator,
            self.autocast,
            steps,
            self.best.step if validated and self.recipe.training.keep == "best" else steps,
            self.earlier_seconds + time.perf_counter() - self.began,
            validated and (patient or self.recipe.training.keep == "best"),
        )

    def _train(
        self,
        model: PreTrainedModel,
        optimizer: AdamW,
        prepared: Prepared,
        plan: Plan,
        own: dict[str, Any],
        state: dict[str, Any] | None,
        stop: StopRequest,
    ) -> int:
        """Run the loop; after each step log, validate, save and look for signals. Return the steps done."""
        train = prepared.examples["train"]
        marks = evaluation_steps(plan, len(train), self.recipe.training.evaluations_per_epoch)
        wrapped: Any = self.accelerator.prepare(model) if self.accelerator.num_processes > 1 else model
        start = int(state["step"]) if state else 0
        if state and state["validation_due"]:
            self._validate(start, model, optimizer, prepared, own, stop)
        if self.best.exhausted:
            return start
        self.progress.stage("training")
        loss = build_objective(self.recipe, prepared)
        number = start
        for step in fit(wrapped, train, loss, optimizer, plan, self.accelerator, start):
            number = step.number
            self._log(step)
            self.progress.advance(
                number, plan.total_steps, loss=step.loss, epoch=step.epoch, best=self.best.value,
                tokens_per_second=step.tokens / step.seconds,
            )  # fmt: skip
            due = number in marks and "validation" in prepared.examples
            if self._stopping(stop):
                self._save(number, model, optimizer, own, validation_due=due)
                self._raise_interrupted(stop, number)
            if due:
                self._validate(number, model, optimizer, prepared, own, stop)
            if self.best.exhausted:
                self.progress.say(
                    f"stopped at step {number}: {self.best.without_improvement} validations without improvement"
                )
                break
            if self._save_due(number):
                self._save(number, model, optimizer, own)
        self._save(number, model, optimizer, own)
        return number

    def _validate(
        self,
        number: int,
        model: PreTrainedModel,
        optimizer: AdamW,
        prepared: Prepared,
        own: dict[str, Any],
        stop: StopRequest,
    ) -> None:
        """Score the validation split, remember the best weights; a signal saves the step and stops."""

        def look(_: int) -> None:
            if stop.signal_number is not None and self.accelerator.num_processes == 1:
                raise _StopNow

        task: Any = self.recipe.task
        examples = prepared.examples["validation"]
        try:
            logits = self.predict(model, prepared, "validation", look)
        except _StopNow:
            self._save(number, model, optimizer, own, validation_due=True)
            self._raise_interrupted(stop, number)
            return
        scores: Scores = task.score(
            logits, examples.targets, prepared.labels, resamples=100, seed=self.recipe.seed
        )
        self.best.greater_is_better = scores.greater_is_better
        if self.best.update(number, scores.headline.value):
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(model).items()}
        self._append({"step": number, "validation": {scores.primary: scores.headline.value}})
        self.progress.say(
            f"step {number}: validation {scores.primary} {scores.headline.value:.4f}"
            + (" (best so far)" if self.best.step == number else "")
        )

    def predict(
        self,
        model: PreTrainedModel,
        prepared: Prepared,
        split: str,
        on_batch: Callable[[int], None] = lambda examples: None,
    ) -> NDArray[np.float32]:
        """Return the logits of a split, [rows, labels], in row order; non-finite ones are refused."""
        examples = prepared.examples[split]
        size = self.recipe.evaluation.batch_size
        logits = predict_logits(model, examples, size, self.accelerator, self.autocast, on_batch)
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            ids = prepared.dataset.splits[split].row_ids
            raise Diverged(
                f"the model's outputs are not finite for {len(broken)} of {len(logits)} rows of {split}, "
                f"first {', '.join(ids[row] for row in broken[:5])}",
                fix="lower training.learning_rate",
            )
        return logits

    def _restore(
        self, model: PreTrainedModel, optimizer: AdamW, own: dict[str, Any], extending: bool
    ) -> dict[str, Any] | None:
        checkpoint = newest_checkpoint(self.run.checkpoints, self.progress.warn)
        if checkpoint is None:
            self.progress.warn("no valid checkpoint was found; the run starts again from step 0")
            self._cut_log(0)
            return None
        changes = describe_changes(checkpoint.state["identity"], own, extending)
        if changes:
            raise RunError(
                "this run cannot be continued exactly, because something it depends on has changed:\n    "
                + "\n    ".join(changes),
                where=str(self.run.path),
                fix="restore what changed, or start a new run",
            )
        if (threads := checkpoint.state["threads"]) != torch.get_num_threads():
            self.progress.warn(
                f"this run was made with {threads} threads, now there are {torch.get_num_threads()}: "
                "it continues, but not bit for bit"
            )
        best = checkpoint.restore(model, optimizer)
        self.best = BestSoFar(**checkpoint.state["best"])
        self.best.patience_evaluations = self.recipe.training.patience_evaluations
        if best is not None:
            self.best_weights = {name: tensor.to(self.accelerator.device) for name, tensor in best.items()}
        elif self.best.step == checkpoint.step and self.best.step > 0:
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(model).items()}
        self.earlier_seconds = float(checkpoint.state["seconds"])
        self._cut_log(checkpoint.step)
        self.progress.say(f"continuing from {checkpoint.path.name}")
        return checkpoint.state

    def _save_due(self, number: int) -> bool:
        every = self.recipe.training.checkpoint_steps
        if every is not None:
            return number % every == 0
        due = time.perf_counter() - self.saved_at >= CHECKPOINT_SECONDS
        return bool(self._agree(due))

    def _save(
        self,
        number: int,
        model: PreTrainedModel,
        optimizer: AdamW,
        own: dict[str, Any],
        validation_due: bool = False,
    ) -> None:
        if self.accelerator.is_main_process:
            state = {
                "identity": own,
                "best": self.best.dump(),
                "validation_due": validation_due,
                "threads": torch.get_num_threads(),
                "seconds": self.earlier_seconds + time.perf_counter() - self.began,
            }
            best = None if self.best.step == number else self.best_weights
            save_checkpoint(self.run.checkpoints, number, model, optimizer, best, state)
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
            fix=f"continue with: graft finetune --resume {self.run.path}",
        )

    def _log(self, step: Step) -> None:
        self._append(
            {
                "step": step.number,
                "epoch": round(step.epoch, 6),
                "loss": step.loss,
                "gradient_norm": step.gradient_norm,
                "learning_rate": step.learning_rate,
                "examples": step.examples,
                "tokens": step.tokens,
                "seconds": round(step.seconds, 6),
            }
        )

    def _append(self, record: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with self.run.steps.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")

    def _cut_log(self, step: int) -> None:
        """Drop the records after the checkpoint (and a half-written last line); they will be made again."""
        if not self.accelerator.is_main_process or not self.run.steps.exists():
            return
        kept: list[str] = []
        for line in self.run.steps.read_text(encoding="utf-8").split("\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["step"] <= step:
                kept.append(line + "\n")
        write_bytes(self.run.steps, "".join(kept).encode())
