"""Checkpoints of `graftlm.Trainer`: a model folder for `from_pretrained`, and what it takes to go on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState

from graftlm.bridges.collated import TrainingBatches
from graftlm.errors import RunError
from graftlm.rundir import write_json
from graftlm.training.checkpoint import (
    MOMENTS,
    moments_of,
    named_weights,
    problem_of,
    refuse_non_finite,
    restore_moments,
    save_tensors,
    write_folder,
)
from graftlm.training.conditions import changed, conditions
from graftlm.training.optimisation import Stepping

if TYPE_CHECKING:
    from graftlm.bridges.transformers import Trainer

log = logging.getLogger("graftlm")

STATE, OWN_STATE = "trainer_state.json", "graftlm_state.json"
MODEL, OTHER_WEIGHTS = "model.safetensors", "other_weights.safetensors"
# What the weights of the next step depend on. The number of epochs or steps is missing: it may grow.
_EXACT = """
seed data_seed per_device_train_batch_size gradient_accumulation_steps learning_rate lr_scheduler_type
lr_scheduler_kwargs warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm label_smoothing_factor
bf16 train_sampling_strategy dataloader_drop_last
""".split()  # noqa: SIM905 - twenty quoted words would be harder to read

Losses = tuple[float, float, int]
"""Summed since the last record, summed in all records, and the step of the last."""


@dataclass(frozen=True)
class TrainerCheckpoint:
    """A validated checkpoint on disk.

    Args:
        path: its folder.
        own: what stands in our file beside that of the Trainer.
    """

    path: Path
    own: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.own["step"])

    @property
    def losses(self) -> Losses:
        """See `Losses`."""
        since, logged, last = self.own["losses"]
        return float(since), float(logged), int(last)

    def restore(self, trainer: Trainer, optimizer: Stepping) -> TrainerState:
        """Bring weights, moments and, where that is asked for, callbacks to where they were; return the state."""
        _restore_weights(_model(trainer), self.path)
        restore_moments(self.path / MOMENTS, _model(trainer), optimizer)
        for sentence in changed(self.own.get("conditions", {}), _conditions(trainer)):
            log.warning("%s", sentence)
        state = TrainerState.load_from_json(str(self.path / STATE))
        if trainer.args.restore_callback_states_from_checkpoint:
            _restore_callbacks(trainer, state)
        return state


def save(trainer: Trainer, batches: TrainingBatches, optimizer: Stepping, losses: Losses) -> None:
    """Write the checkpoint of this step atomically, then drop old ones down to ``save_total_limit``.

    Raises:
        MissingResource: the disk is full or not writable; older checkpoints are untouched.
        RunError: a weight is not finite; nothing is written.
    """
    state, arguments = trainer.state, trainer.args
    optimizer.flush()
    model = _model(trainer)
    refuse_non_finite(named_weights(model), state.global_step)
    output = Path(str(arguments.output_dir))
    final = output / f"checkpoint-{state.global_step}"
    if state.best_global_step:
        best = output / f"checkpoint-{state.best_global_step}"
        if best == final or best.is_dir():
            state.best_model_checkpoint = str(best)
    for each in exportable(trainer):
        state.stateful_callbacks[type(each).__name__] = each.state()  # pyright: ignore
    moments = {} if arguments.save_only_model else moments_of(model, optimizer)

    def write(partial: Path) -> None:
        write_model(trainer, partial)
        if not arguments.save_only_model:
            save_tensors(partial / MOMENTS, moments)
            if other := _not_in_the_model_file(model, partial):
                save_tensors(partial / OTHER_WEIGHTS, other)
        state.save_to_json(str(partial / STATE))
        own = {
            "step": state.global_step, "losses": losses, "identity": _identity(trainer, batches),
            "conditions": _conditions(trainer),
        }  # fmt: skip
        write_json(partial / OWN_STATE, own)

    needed = sum(each.nbytes for each in (*named_weights(model).values(), *moments.values()))
    write_folder(final, write, f"the checkpoint of step {state.global_step}", needed)
    _drop_old(output, arguments.save_total_limit, state.best_model_checkpoint)


def write_model(trainer: Trainer, folder: Path) -> None:
    """Write model and tokenizer as their own `save_pretrained` does; a plain module as its weights alone."""
    model: Any = trainer.model
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(str(folder))
    else:
        save_tensors(folder / MODEL, named_weights(model))
    reading: Any = trainer.processing_class or getattr(trainer.data_collator, "tokenizer", None)
    if reading is not None:
        reading.save_pretrained(str(folder))


def copy_best(trainer: Trainer, folder: Path) -> None:
    """Give the model the weights of the best checkpoint."""
    _restore_weights(_model(trainer), folder)


def to_resume(trainer: Trainer, batches: TrainingBatches, asked: str | bool) -> TrainerCheckpoint:
    """Return the checkpoint to continue from: the folder asked for, or the newest valid one of the output folder.

    Raises:
        RunError: there is none, or what it depends on has changed.
    """
    output = Path(str(trainer.args.output_dir))
    folders = [Path(asked)] if isinstance(asked, str) else reversed(_checkpoints(output))
    for folder in folders:
        problem = problem_of(folder, (STATE, OWN_STATE, MOMENTS))
        if problem is None:
            own: dict[str, Any] = json.loads((folder / OWN_STATE).read_text(encoding="utf-8"))
            _refuse_changes(own["identity"], _identity(trainer, batches), folder)
            return TrainerCheckpoint(folder, own)
        if isinstance(asked, str):
            stock = (folder / STATE).is_file() and not (folder / OWN_STATE).is_file()
            raise RunError(
                "this checkpoint was written by another Trainer; ours reads no pickled files"
                if stock
                else f"this checkpoint is not valid: {problem}",
                where=str(folder),
                fix="load the model from it with from_pretrained and train anew, or name another checkpoint",
            )
        log.warning("%s is not valid (%s); falling back to the one before", folder.name, problem)
    raise RunError(
        "there is no valid checkpoint to continue from", where=str(output), fix="call train() without resume"
    )


def exportable(trainer: Trainer) -> list[Any]:
    """Return the callbacks, and the control, that have a state to save."""
    every = [*trainer.callback_handler.callbacks, trainer.control]
    return [each for each in every if isinstance(each, ExportableState)]


def _model(trainer: Trainer) -> nn.Module:
    assert isinstance(trainer.model, nn.Module)
    return trainer.model


def _restore_callbacks(trainer: Trainer, state: TrainerState) -> None:
    kept: Any = state.stateful_callbacks
    callbacks = trainer.callback_handler.callbacks
    for index, callback in enumerate(callbacks):
        if isinstance(callback, ExportableState) and type(callback).__name__ in kept:
            callbacks[index] = type(callback).from_state(kept[type(callback).__name__])
    if TrainerControl.__name__ in kept:
        trainer.control = TrainerControl.from_state(kept[TrainerControl.__name__])


def _not_in_the_model_file(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return what training changes and `save_pretrained` has not written by its own name, as with adapters."""
    written: set[str] = set()
    if (folder / MODEL).is_file():
        with safe_open(folder / MODEL, "pt") as file:
            written = set(file.keys())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: each for name, each in named_weights(model).items() if name not in written | frozen}


def _restore_weights(model: nn.Module, folder: Path) -> None:
    found: dict[str, Tensor] = {}
    for name in (MODEL, OTHER_WEIGHTS):
        if (folder / name).is_file():
            found |= load_file(folder / name)
    own = named_weights(model)
    needed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = sorted(needed - found.keys())
    different = sorted(name for name in own.keys() & found.keys() if own[name].shape != found[name].shape)
    if missing or different:
        raise RunError(
            f"the checkpoint has other weights than the model: {(missing or different)[:5]}",
            where=str(folder),
        )
    for name in own.keys() & found.keys():
        own[name].copy_(found[name])


def _conditions(trainer: Trainer) -> dict[str, Any]:
    precision = str(trainer.accelerator.mixed_precision)
    return conditions(trainer.args.device, bool(trainer.forward_pass().padded_because), precision, 1)


def _identity(trainer: Trainer, batches: TrainingBatches) -> dict[str, Any]:
    shapes = {name: list(each.shape) for name, each in named_weights(_model(trainer)).items()}
    values = {name: getattr(trainer.args, name) for name in _EXACT}
    return {
        **{name: value.value if isinstance(value, Enum) else value for name, value in values.items()},
        "rows": batches.rows,
        "contents of the rows": batches.fingerprint,
        "shapes of the weights": hashlib.sha256(json.dumps(shapes).encode()).hexdigest(),
    }


def _refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    now = json.loads(json.dumps(now))
    changes = [
        f"{name}: was {before.get(name)!r}, is {now[name]!r}" for name in now if before.get(name) != now[name]
    ]
    if changes:
        raise RunError(
            "this training cannot be continued exactly, because something it depends on has changed:\n    "
            + "\n    ".join(changes),
            where=str(folder),
            fix="restore what changed, or train anew",
        )


def _checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints of a folder in the order of their steps."""
    found = [each for each in output.glob("checkpoint-*") if each.name.partition("-")[2].isdigit()]
    return sorted(found, key=lambda each: int(each.name.partition("-")[2]))


def _drop_old(output: Path, limit: int | None, best: str | None) -> None:
    if limit is None or limit <= 0:
        return
    every = _checkpoints(output)
    kept = {every[-1]}
    if best is not None:
        kept.add(Path(best))
    for each in reversed(every):
        if len(kept) < limit:
            kept.add(each)
    for each in every:
        if each not in kept:
            shutil.rmtree(each, ignore_errors=True)
