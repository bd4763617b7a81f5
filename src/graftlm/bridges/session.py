"""The story of a `graftlm.Trainer.train`: our steps, with the user's callbacks between them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers.trainer_callback import TrainerCallback, TrainerState
from transformers.trainer_utils import TrainOutput, speed_metrics

from graftlm.bridges.checkpoints import TrainerCheckpoint, copy_best, exportable, save, to_resume
from graftlm.bridges.collated import MicroBatch, TrainingBatches, count_rows
from graftlm.errors import ConfigurationError, DataError
from graftlm.training.adamw import KernelAdamW
from graftlm.training.loop import finite_norm
from graftlm.training.memory import memory_for
from graftlm.training.optimisation import TorchAdamW
from graftlm.training.randomness import dropout_seed

if TYPE_CHECKING:
    from graftlm.bridges.transformers import Trainer

log = logging.getLogger("graftlm")

SMALLER_STEPS = (
    "take a smaller per_device_train_batch_size and more gradient_accumulation_steps: same numbers"
)
# A user's callback that is told of these may look at any weight or gradient.
_STEP_EVENTS = ("on_step_begin", "on_substep_end", "on_step_end")
_GRADIENT_EVENTS = ("on_pre_optimizer_step", "on_optimizer_step")


class Session:
    """One call of `train`.

    Args:
        trainer: whose arguments, data, callbacks and state it works with.
        ignore_keys: see `transformers.Trainer.train`.
    """

    optimizer: KernelAdamW | TorchAdamW

    def __init__(self, trainer: Trainer, ignore_keys: list[str] | None) -> None:
        self.trainer, self.ignore_keys = trainer, ignore_keys
        self.arguments = trainer.args
        with torch.random.fork_rng(devices=[]):
            # The order of rows is that of the stock Trainer, which has set this seed and drawn nothing since.
            torch.manual_seed(self.arguments.seed)
            self.batches = TrainingBatches(trainer.get_train_dataloader(), self.arguments)
        per_epoch = self.batches.steps
        given = self.arguments.max_steps
        self.total_steps = given if given > 0 else math.ceil(self.arguments.num_train_epochs * per_epoch)
        self.epochs = math.ceil(self.total_steps / per_epoch)
        self.loss_since_log, self.loss_logged, self.last_logged = 0.0, 0.0, 0
        self.norm, self.rate = 0.0, 0.0

    def run(self, resume: str | bool | None) -> TrainOutput:
        """Train from the start or from a checkpoint to the end; see `transformers.Trainer.train`."""
        trainer, arguments = self.trainer, self.arguments
        trainer.model.zero_grad()  # pyright: ignore[reportOptionalMemberAccess] - as of a pass before, or a NaN
        self._make_optimizer()
        trainer.state = self._fresh_state()
        checkpoint = to_resume(trainer, self.batches, resume) if resume else None
        start = self._continue_from(checkpoint) if checkpoint else 0
        began, trainer.is_in_train = time.time(), True
        watched = self._watched(_STEP_EVENTS + _GRADIENT_EVENTS)
        late = nullcontext() if watched or trainer.reads_weights else self.optimizer.attached()
        try:
            with trainer.forward_pass().installed(), late:
                self.tell("on_train_begin")
                if arguments.eval_on_start:
                    trainer.evaluate(ignore_keys=self.ignore_keys)
                self._epochs(start)
            return self._end(start, began)
        finally:
            trainer.is_in_train = False

    def tell(self, event: str, **more: Any) -> None:
        """Let the callbacks know, and take over what they ask for. Outside a step they find no weight late."""
        trainer = self.trainer
        if event not in _STEP_EVENTS + _GRADIENT_EVENTS:
            self.optimizer.flush()
        trainer.control = getattr(trainer.callback_handler, event)(
            trainer.args, trainer.state, trainer.control, **more
        )

    def _make_optimizer(self) -> None:
        trainer = self.trainer
        trainer.optimizer = trainer.lr_scheduler = None  # pyright: ignore[reportAttributeAccessIssue]
        made = trainer.create_optimizer()
        if not isinstance(made, KernelAdamW | TorchAdamW):
            raise ConfigurationError(
                f"create_optimizer gives {type(made).__name__}; only our AdamW can be clipped, saved and resumed",
                where="Trainer",
                fix="return what super().create_optimizer() gives; its param_groups may be changed",
            )
        self.optimizer = made
        trainer.create_scheduler(num_training_steps=self.total_steps, optimizer=made)
        if isinstance(made, KernelAdamW):
            # Schedules ask whether the optimiser has stepped by looking for a call of `step`, which we do not make.
            made._opt_called = True  # pyright: ignore
        handler = trainer.callback_handler
        handler.model, handler.optimizer, handler.lr_scheduler = trainer.model, made, trainer.lr_scheduler
        handler.train_dataloader = self.batches.loader  # pyright: ignore[reportAttributeAccessIssue]

    def _fresh_state(self) -> TrainerState:
        trainer = self.trainer
        state = TrainerState(stateful_callbacks=exportable(trainer))  # pyright: ignore[reportArgumentType]
        state.train_batch_size = self.arguments.train_batch_size
        state.compute_steps(self.arguments, self.total_steps)
        return self._sized(state)

    def _sized(self, state: TrainerState) -> TrainerState:
        trainer = self.trainer
        state.max_steps, state.num_train_epochs = self.total_steps, self.epochs
        state.is_local_process_zero = trainer.is_local_process_zero()
        state.is_world_process_zero = trainer.is_world_process_zero()
        return state

    def _continue_from(self, checkpoint: TrainerCheckpoint) -> int:
        state = checkpoint.restore(self.trainer, self.optimizer)
        if state.max_steps != self.total_steps:
            log.warning(
                "the training had %d steps and now has %d: this is a new schedule",
                state.max_steps,
                self.total_steps,
            )
        self.trainer.state = self._sized(state)
        self.loss_since_log, self.loss_logged, self.last_logged = checkpoint.losses
        schedule: Any = self.trainer.lr_scheduler
        for _ in range(checkpoint.step):
            schedule.step()
        for epoch in range(checkpoint.step // self.batches.steps):
            self.batches.order(epoch)  # of loaders that count
        return checkpoint.step

    def _watched(self, events: Iterable[str]) -> bool:
        """Whether a callback of the user's looks at weights or gradients at any of these events."""
        return any(
            getattr(type(callback), event) is not getattr(TrainerCallback, event)
            for callback in self.trainer.callback_handler.callbacks
            for event in events
            if not type(callback).__module__.startswith("transformers.")
            and getattr(callback, "reads_weights", True)
        )

    def _epochs(self, start: int) -> None:
        trainer, per_epoch = self.trainer, self.batches.steps
        for epoch in range(start // per_epoch, self.epochs):
            self.tell("on_epoch_begin")
            done = max(0, start - epoch * per_epoch)
            order = self.batches.order(epoch)
            for parts in self.batches.read(order, epoch * per_epoch, done):
                self._step(parts, epoch, done)
                done += 1
                if trainer.control.should_epoch_stop or trainer.control.should_training_stop:
                    break
            self.tell("on_epoch_end")
            self._log_evaluate_save()
            if trainer.control.should_training_stop:
                break

    def _step(self, parts: list[MicroBatch], epoch: int, done: int) -> None:
        trainer, optimizer, state = self.trainer, self.optimizer, self.trainer.state
        trainer.model.train()  # pyright: ignore[reportOptionalMemberAccess]
        self.tell("on_step_begin")
        loss = self._accumulate(parts)
        if loss is None:
            optimizer.zero_grad()
            return
        rows = [row for part in parts for row in part.rows]
        self.norm = finite_norm(optimizer, loss, state.global_step + 1, rows, "learning_rate")
        limit = self.arguments.max_grad_norm if self.arguments.max_grad_norm > 0 else None
        if limit is not None and self._watched(_GRADIENT_EVENTS):
            optimizer.clip(self.norm, limit)
            limit = None
        self.tell("on_pre_optimizer_step")
        with memory_for(f"step {state.global_step + 1}, the moments of AdamW", SMALLER_STEPS):
            optimizer.clip_and_step(self.norm, limit)
        self.tell("on_optimizer_step")
        scheduler: Any = trainer.lr_scheduler
        self.rate = float(scheduler.get_last_lr()[0])
        scheduler.step()
        optimizer.zero_grad()
        self.loss_since_log += loss
        state.global_step += 1
        every = self.arguments.gradient_accumulation_steps
        state.epoch = epoch + min((done + 1) * every, self.batches.micro_batches) / self.batches.micro_batches
        self.tell("on_step_end")
        self._log_evaluate_save()

    def _accumulate(self, parts: list[MicroBatch]) -> float | None:
        """Run forward and backward over the micro-batches; return the loss of the step, None if a callback stops it."""
        trainer, state, device = self.trainer, self.trainer.state, self.arguments.device
        counts = [trainer.count_items(part.inputs) for part in parts]
        if len(parts) > 1:
            trainer.refuse_losses_in_parts(parts[0].inputs)
        weight, total, first = sum(counts), 0.0, 0
        for index, (part, items) in enumerate(zip(parts, counts, strict=True)):
            size = count_rows(part.inputs)
            if items:
                inputs: Any = send_to_device(dict(part.inputs), device)
                place = f"step {state.global_step + 1}, micro-batch of {size} rows"
                with (
                    memory_for(place, SMALLER_STEPS),
                    dropout_seed(device, self.arguments.seed, state.global_step, index, 0),
                    trainer.forward_pass().examples(
                        self.arguments.seed, state.global_step, range(first, first + size)
                    ),
                ):
                    loss = trainer.loss_of(inputs, items) * (items / weight)
                    loss.backward()
                total += float(loss.detach())
                trainer.current_flos += float(trainer.floating_point_ops(inputs))
            first += size
            if index < len(parts) - 1:
                self.tell("on_substep_end")
                if trainer.control.should_epoch_stop or trainer.control.should_training_stop:
                    return None
        return total

    def _log_evaluate_save(self) -> None:
        trainer, control, state = self.trainer, self.trainer.control, self.trainer.state
        if control.should_log or control.should_evaluate or control.should_save:
            self.optimizer.flush()
        if control.should_log and state.global_step > self.last_logged:
            logs = {
                "loss": self.loss_since_log / (state.global_step - self.last_logged),
                "grad_norm": self.norm,
                "learning_rate": self.rate,
            }
            self.loss_logged += self.loss_since_log
            self.loss_since_log, self.last_logged = 0.0, state.global_step
            trainer.store_flos()
            trainer.log(logs)
        if trainer.control.should_evaluate:
            metrics = trainer.evaluate(ignore_keys=self.ignore_keys)
            is_best = self._is_best(metrics)
            if self.arguments.save_strategy == "best":
                trainer.control.should_save = is_best
        if trainer.control.should_save:
            trainer.store_flos()
            save(
                trainer,
                self.batches,
                self.optimizer,
                (self.loss_since_log, self.loss_logged, self.last_logged),
            )
            self.tell("on_save")

    def _is_best(self, metrics: dict[str, float]) -> bool:
        """Remember an evaluation that is better than all before."""
        wanted, state = self.arguments.metric_for_best_model, self.trainer.state
        if wanted is None:
            return False
        name = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
        if name not in metrics:
            raise ConfigurationError(
                f"no evaluation gives {name}; there are {', '.join(sorted(metrics))}",
                where="metric_for_best_model",
                fix="name one of these, or let compute_metrics return it",
            )
        better = np.greater if self.arguments.greater_is_better else np.less
        if state.best_metric is not None and not better(metrics[name], state.best_metric):
            return False
        state.best_metric = metrics[name]
        if self.arguments.save_strategy != "no":
            state.best_global_step = state.global_step
        return True

    def _end(self, start: int, began: float) -> TrainOutput:
        trainer, state = self.trainer, self.trainer.state
        done = state.global_step - start
        # Of the whole run, as if it had never been interrupted.
        train_loss = (self.loss_logged + self.loss_since_log) / max(state.global_step, 1)
        examples = len(self.batches.loader.dataset) * self.epochs  # pyright: ignore[reportArgumentType]
        metrics = speed_metrics("train", began, examples * done / max(self.total_steps, 1), done)
        trainer.store_flos()
        metrics["total_flos"], metrics["train_loss"] = state.total_flos, train_loss
        trainer.log(metrics)
        if self.arguments.load_best_model_at_end and state.best_model_checkpoint is not None:
            copy_best(trainer, Path(state.best_model_checkpoint))
        self.tell("on_train_end")
        return TrainOutput(state.global_step, train_loss, metrics)


def loss_value(loss: Any) -> Tensor:
    """Return the loss that a model or a user's function gave, as a number that has a gradient."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise DataError(
            f"the loss is {type(loss).__name__}{list(getattr(loss, 'shape', []))}, not one number",
            where="compute_loss",
            fix="return the mean over the items of the batch",
        )
    return loss.reshape(())
