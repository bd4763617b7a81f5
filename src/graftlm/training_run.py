"""The one story of a training: prepare -> fit -> evaluate -> keep the best -> save -> prove."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from graftlm.data.features import Outputs
from graftlm.data.places import first_places
from graftlm.errors import Diverged, Interrupted, RunError
from graftlm.kernels.library import describe
from graftlm.models.flat.probe import make_flat
from graftlm.models.heads import body_is_frozen
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
from graftlm.tasks._task import Learnt
from graftlm.training.checkpoint import copy_weights, named_weights, newest_checkpoint, save_checkpoint
from graftlm.training.devices import resolve_precision
from graftlm.training.evaluation import predict_outputs
from graftlm.training.frozen import KeptFeatures, NotKept, keep_features
from graftlm.training.loop import Plan, Step, fit, steps_per_epoch
from graftlm.training.memory import place
from graftlm.training.optimisation import Stepping
from graftlm.training.signals import StopRequest
from graftlm.training.stopping import BestSoFar

CHECKPOINT_SECONDS = 60.0
# The conditions of checkpoints that are older than the choice.
_BEFORE = {"execution": "padded", "kernels": "none"}


class _StopNow(Exception):
    """A signal arrived during an evaluation."""


@dataclass(frozen=True)
class Fitted:
    """What came of the training; the model of the `TrainingRun` has the weights to keep.

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


class TrainingRun:
    """One training in a run directory: first `prepare`, then `execute`. Only rank 0 writes."""

    prepared: Prepared
    plan: Plan
    model: PreTrainedModel
    padded_because: str
    optimizer: Stepping
    identity: dict[str, Any]
    state: dict[str, Any] | None

    def __init__(
        self, recipe: Recipe, run: RunDirectory, progress: Progress, accelerator: Accelerator
    ) -> None:
        self.recipe, self.run, self.progress, self.accelerator = recipe, run, progress, accelerator
        self.autocast = resolve_precision(recipe.training.precision, self.accelerator.device)
        self.best_weights: dict[str, Tensor] | None = None
        self.best = BestSoFar(
            greater_is_better=True, patience_evaluations=recipe.training.patience_evaluations
        )
        self.earlier_seconds = 0.0
        self.began = time.perf_counter()
        self.saved_at = time.perf_counter()

    def prepare(self, data: object = None, resume: bool = False, extending: bool = False) -> None:
        """Do everything that can refuse: rows, tokens, model and, on resume, the comparison with the checkpoint.

        Nothing is written, so that a refused run leaves its directory as it was.

        Args:
            data: rows in memory; None reads ``recipe.data.path``.
            resume: continue from the newest valid checkpoint of the run.
            extending: on resume, ``training.epochs`` may differ from what the checkpoint was made with.
        """
        self.prepared = prepare(self.recipe, data, self.progress)
        self.plan = make_plan(self.recipe, len(self.prepared.examples["train"]), self.autocast)
        self.model = build_model(self.recipe, self.prepared, self.progress)
        place(self.model, self.accelerator.device)
        self.optimizer = build_strategy(self.recipe, self.model)
        self.padded_because = self._lay_flat()
        self.identity = identity(self.recipe, self.prepared)
        self.state = self._restore(extending) if resume else None

    def _lay_flat(self) -> str:
        """Let the model work without padding where it can; return why it does not, or nothing."""
        asked = self.recipe.training.execution == "padded"
        reason = "the recipe asks for it" if asked else make_flat(self.model)
        if reason and not asked:
            self.progress.say(f"this base model works on padded batches: {reason}")
        return reason

    def execute(self) -> Fitted:
        """Train with validation and checkpoints, and return the model with the weights to keep.

        Raises:
            Interrupted: after a signal, when a checkpoint of the last whole step was written.
            Diverged: at the first non-finite loss or gradient.
        """
        prepared, model = self.prepared, self.model
        self._cut_log(self.state)
        with StopRequest() as stop:
            steps = self._train(stop)
        if self.recipe.training.keeps_best and self.best_weights is not None:
            copy_weights(model, self.best_weights)
        validated = "validation" in prepared.examples
        patient = self.recipe.training.patience_evaluations is not None
        return Fitted(
            steps,
            self.best.step if validated and self.recipe.training.keeps_best else steps,
            self.earlier_seconds + time.perf_counter() - self.began,
            validated and (patient or self.recipe.training.keeps_best),
        )

    def _train(self, stop: StopRequest) -> int:
        """Run the loop; after each step log, validate, save and look for signals. Return the steps done."""
        train, plan, state = self.prepared.examples["train"], self.plan, self.state
        marks = evaluation_steps(plan, len(train), self.recipe.training.evaluations_per_epoch)
        wrapped: Any = (
            self.accelerator.prepare(self.model) if self.accelerator.num_processes > 1 else self.model
        )
        start = int(state["step"]) if state else 0
        if state and state["validation_due"]:
            self._validate(start, stop)
        self.progress.stage("training")
        loss = build_objective(self.recipe, self.prepared)
        number = start
        # A run that had stopped by its patience, and was only interrupted afterwards, takes no step more.
        steps = (
            ()
            if self.best.exhausted
            else fit(wrapped, train, loss, self.optimizer, plan, self.accelerator, start, self._features())
        )
        for step in self._steps(steps):
            number = step.number
            self._log(step)
            self.progress.advance(
                number, plan.total_steps, loss=step.loss, epoch=step.epoch, best=self.best.value,
                tokens_per_second=step.tokens / step.seconds,
            )  # fmt: skip
            due = number in marks and "validation" in self.prepared.examples
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

    def _features(self) -> KeptFeatures | None:
        """Return what a frozen body says about the training rows, unless each is read once only.

        Nothing that an interruption could change decides about it, since last bits depend on it.
        """
        train, plan, device = self.prepared.examples["train"], self.plan, self.accelerator.device
        if not body_is_frozen(self.model) or plan.total_steps <= steps_per_epoch(len(train), plan.batch_size):
            return None
        batch_size = self.recipe.evaluation.batch_size
        try:
            if self.accelerator.num_processes > 1:
                raise NotKept("there are several processes")
            return keep_features(self.model, train, batch_size, device, self.autocast, self.run.path)
        except NotKept as reason:
            self.progress.say(f"the frozen body is run in each pass: {reason}")
            return None

    def _steps(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Hand the steps on; a diverged one names the rows of the user's file."""
        try:
            yield from steps
        except Diverged as error:
            ids, row_of = self.prepared.dataset.splits["train"].row_ids, self.prepared.features["train"].rows
            rows = first_places([ids[row_of[example]] for example in error.rows])
            raise Diverged(
                f"{error.what}; rows of this step: {rows}", rows=error.rows, fix=error.fix
            ) from None

    def _validate(self, number: int, stop: StopRequest) -> None:
        """Score the validation split, remember the best weights; a signal saves the step and stops."""

        def look(_: int) -> None:
            if stop.signal_number is not None and self.accelerator.num_processes == 1:
                raise _StopNow

        try:
            outputs = self.predict("validation", look)
        except _StopNow:
            self._save(number, validation_due=True)
            self._raise_interrupted(stop, number)
            return
        scores = self.score("validation", outputs, self.tuned(outputs))
        self.best.greater_is_better = scores.greater_is_better
        if self.best.update(number, scores.headline.value) and self.recipe.training.keeps_best:
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(self.model).items()}
        self._append({"step": number, "validation": {scores.primary: scores.headline.value}})
        self.progress.say(
            f"step {number}: validation {scores.primary} {scores.headline.value:.4f}"
            + (" (best so far)" if self.best.step == number else "")
        )

    def tuned(self, outputs: Outputs) -> Learnt:
        """Return labels and rule as tuned on the outputs for the validation rows."""
        task: Any = self.recipe.task
        prepared = self.prepared
        split, features = prepared.dataset.splits["validation"], prepared.features["validation"]
        return task.tune(outputs, split, features, prepared.learnt)

    def score(self, split: str, outputs: Outputs, learnt: Learnt) -> Scores:
        """Return the scores of a split, with a few resamples only: for choosing, not for telling."""
        task: Any = self.recipe.task
        rows = self.prepared.dataset.splits[split]
        predictions = task.decode(outputs, rows, self.prepared.features[split], learnt)
        return task.score(predictions, rows, learnt, resamples=100, seed=self.recipe.seed)

    def predict(self, split: str, on_batch: Callable[[int], None] = lambda examples: None) -> Outputs:
        """Return the outputs for every example of a split, in order; non-finite ones are refused."""
        outputs = predict_outputs(
            self.model,
            self.prepared.examples[split],
            self.recipe.evaluation.batch_size,
            self.accelerator.device,
            self.autocast,
            on_batch,
            (self.accelerator.process_index, self.accelerator.num_processes),
        )
        broken = [example for example, output in enumerate(outputs) if not np.isfinite(output).all()]
        if broken:
            ids, rows = self.prepared.dataset.splits[split].row_ids, self.prepared.features[split].rows
            raise Diverged(
                f"the model's outputs are not finite for {len(broken)} of {len(outputs)} examples of {split}, "
                f"first {', '.join(ids[rows[example]] for example in broken[:5])}",
                fix="lower training.learning_rate",
            )
        return outputs

    def _restore(self, extending: bool) -> dict[str, Any] | None:
        checkpoint = newest_checkpoint(self.run.checkpoints, self.progress.warn)
        before = checkpoint.state["identity"] if checkpoint else self.run.read_record()["identity"]
        changes = describe_changes(before, self.identity, extending)
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
            return None
        for name, now in self._conditions().items():
            if (then := (_BEFORE | checkpoint.state["conditions"])[name]) != now:
                self.progress.warn(f"{name} was {then}, now {now}: the run continues, but not bit for bit")
        best = checkpoint.restore(self.model, self.optimizer)
        self.best = BestSoFar(**checkpoint.state["best"])
        if (
            before["recipe"]["training"]["epochs"] != self.recipe.training.epochs
        ):  # extended: a new chance to improve
            self.best.without_improvement = 0
        if best is not None:
            self.best_weights = {name: tensor.to(self.accelerator.device) for name, tensor in best.items()}
        elif self.best.step == checkpoint.step and self.best.step > 0:
            self.best_weights = {name: tensor.clone() for name, tensor in named_weights(self.model).items()}
        self.earlier_seconds = float(checkpoint.state["seconds"])
        self.progress.say(f"continuing from {checkpoint.path.name}")
        return checkpoint.state

    def _conditions(self) -> dict[str, Any]:
        """What the last bits depend on beside the identity of the run."""
        return {
            "threads": torch.get_num_threads(),
            "device": self.accelerator.device.type,
            "execution": "padded" if self.padded_because else "flat",
            "precision": str(self.autocast or torch.float32),
            "processes": self.accelerator.num_processes,
            "kernels": describe().partition(":")[0],
            "torch": str(torch.__version__),
            "transformers": version("transformers"),
        }

    def _save_due(self, number: int) -> bool:
        every = self.recipe.training.checkpoint_steps
        if every is not None:
            return number % every == 0
        due = time.perf_counter() - self.saved_at >= CHECKPOINT_SECONDS
        return bool(self._agree(due))

    def _save(self, number: int, validation_due: bool = False) -> None:
        if self.accelerator.is_main_process:
            state = {
                "identity": self.identity,
                "best": self.best.dump(),
                "validation_due": validation_due,
                "conditions": self._conditions(),
                "seconds": self.earlier_seconds + time.perf_counter() - self.began,
            }
            best = None if self.best.step == number else self.best_weights
            save_checkpoint(self.run.checkpoints, number, self.model, self.optimizer, best, state)
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

    def _cut_log(self, state: dict[str, Any] | None) -> None:
        """Drop the records after the checkpoint (and a half-written last line); they will be made again."""
        step = int(state["step"]) if state else 0
        again = step if state and state["validation_due"] else None
        if not self.accelerator.is_main_process or not self.run.steps.exists():
            return
        kept: list[str] = []
        for line in self.run.steps.read_text(encoding="utf-8").split("\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["step"] <= step and not ("validation" in record and record["step"] == again):
                kept.append(line + "\n")
        write_bytes(self.run.steps, "".join(kept).encode())
