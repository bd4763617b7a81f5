"""``graft finetune``: rows in, a proved model out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from graftlm.conclusion import conclude
from graftlm.data.benchmark_reading import is_benchmark
from graftlm.data.training_texts import write_training_texts
from graftlm.errors import ConfigurationError, RunError
from graftlm.fine_tuning import FineTuning
from graftlm.progress import Progress, Silent
from graftlm.recipe import Recipe, load_recipe
from graftlm.run import Run
from graftlm.rundir import RunDirectory
from graftlm.training.devices import open_accelerator, resolve_precision
from graftlm.training_run import TrainingRun
from graftlm.workflows.running import begin, recorded, require_there


def finetune(
    recipe: Recipe, data: object = None, run_directory: Path | None = None, progress: Progress | None = None
) -> Run:
    """Train, evaluate, save and prove a model; return the run.

    Args:
        recipe: complete; see `graftlm.recipe.load_recipe`.
        data: rows in memory (DataFrame, datasets.Dataset, DatasetDict, list of dicts, or split name -> one of
            these); None reads ``recipe.data.path``.
        run_directory: a folder to create; None makes ``runs/<data name>-<date>-<time>``.
        progress: who listens; None is silence.
    """
    progress = progress or Silent()
    if data is None and not recipe.data.path:
        raise ConfigurationError(
            "no data was given", where="data.path", fix="name a file: graft finetune FILE"
        )
    accelerator = open_accelerator(recipe.training.device)
    with begin(_name(recipe), run_directory, accelerator) as run:
        training = _prepared(recipe, run, progress, accelerator, data)
    with run.locked() if accelerator.is_main_process else contextlib.nullcontext():
        return _work(training)


def resume(
    path: Path,
    data: object = None,
    extend_epochs: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """Continue an interrupted run exactly, or extend a finished one with a new schedule.

    Args:
        path: the run directory.
        data: the same rows as at the start, if those were given in memory.
        extend_epochs: total passes of the longer run; the learning rate follows the new schedule from here on.
        progress: who listens; None is silence.
    """
    progress = progress or Silent()
    run = RunDirectory(path)
    record = run.read_record()
    if not run.recipe.exists():
        raise RunError("this run was stopped before it began", where=str(path), fix="start it again")
    run.require_made_by("finetune")
    recipe = load_recipe(run.recipe)
    if record["state"] == "finished" and extend_epochs is None:
        raise RunError("this run is finished", where=str(path), fix="--extend-epochs N trains it further")
    if data is None and not recipe.data.path:
        raise RunError(
            "this run was made with rows in memory",
            where=str(path),
            fix="resume it from Python: graftlm.finetune(data, resume=...) with the same rows",
        )
    if data is None:
        require_there(recipe.data.path, run, record)
    if extend_epochs is not None:
        recipe = recipe.changed({"training.epochs": extend_epochs})
        progress.say(
            f"extended to {extend_epochs:g} epochs: from here on the schedule is that of the longer run"
        )
    accelerator = open_accelerator(recipe.training.device)
    with run.locked() if accelerator.is_main_process else contextlib.nullcontext():
        training = _prepared(recipe, run, progress, accelerator, data)
        training.restore(extend_epochs is not None or bool(record.get("extended")))
        done = int(training.state["step"]) if training.state else 0
        if extend_epochs is not None and training.plan.total_steps <= done:
            raise ConfigurationError(
                f"--extend-epochs {extend_epochs:g} is {training.plan.total_steps} steps, not more than the {done} "
                "this run already has",
                where="training.epochs",
            )
        if accelerator.is_main_process:
            run.update_record(extended=(extend_epochs is not None or bool(record.get("extended"))) or None)
        return _work(training)


def _prepared(
    recipe: Recipe, run: RunDirectory, progress: Progress, accelerator: Accelerator, data: object
) -> TrainingRun[FineTuning]:
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    subject = FineTuning(recipe, accelerator, autocast, progress, data)
    return TrainingRun(subject, run, progress, accelerator)


def _work(training: TrainingRun[FineTuning]) -> Run:
    """Train and conclude; the record says at any time how far it got."""
    subject = training.subject
    if training.accelerator.is_main_process:
        task: Any = subject.recipe.task
        write_training_texts(training.run, subject.prepared.dataset.splits["train"], task.roles)
    with recorded(training, subject.recipe.to_yaml(), _facts(subject)):
        conclude(training, training.execute())
    training.accelerator.wait_for_everyone()
    return Run(training.run)


def _facts(subject: FineTuning) -> dict[str, Any]:
    """Return what the record says about data and base model."""
    prepared = subject.prepared
    return {
        "data": {
            "origin": prepared.dataset.origin,
            "rows": {name: len(split) for name, split in prepared.dataset.splits.items()},
            "fingerprints": prepared.dataset.fingerprints(),
            "decisions": prepared.dataset.decisions,
            "findings": [
                {"severity": item.severity, "kind": item.kind, "message": item.message}
                for item in prepared.findings
            ],
            "truncated": {name: len(rows) for name, rows in prepared.truncated.items()},
        },
        "base": {"name": prepared.base.name, "fingerprint": prepared.base.fingerprint},
        "labels": list(prepared.learnt.labels),
    }


def _name(recipe: Recipe) -> str:
    source = recipe.data.path.split("@")[0]
    if is_benchmark(source):  # called by its name, not by the folder of its files
        source = source.partition("=")[0]
    return Path(source).name.split(".")[0] or "data"
