"""``graft finetune``: rows in, a proved model out."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from graftlm.conclusion import conclude, describe_machine
from graftlm.data.benchmark_reading import is_benchmark
from graftlm.data.training_texts import write_training_texts
from graftlm.errors import ConfigurationError, GraftError, Interrupted, RunError
from graftlm.progress import Progress, Silent
from graftlm.recipe import Recipe, load_recipe
from graftlm.run import Run
from graftlm.rundir import RunDirectory, create_run, write_bytes
from graftlm.training.devices import open_accelerator
from graftlm.training_run import TrainingRun


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
    run = _create(recipe, run_directory, accelerator)
    training = TrainingRun(recipe, run, progress, accelerator)
    try:
        training.prepare(data)
    except BaseException:
        if accelerator.is_main_process:  # nothing happened yet: an empty run would only be in the way
            shutil.rmtree(run.path, ignore_errors=True)
        raise
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
    recipe = load_recipe(run.recipe)
    if record["state"] == "finished" and extend_epochs is None:
        raise RunError("this run is finished", where=str(path), fix="--extend-epochs N trains it further")
    if data is None and not recipe.data.path:
        raise RunError(
            "this run was made with rows in memory",
            where=str(path),
            fix="resume it from Python: graftlm.finetune(data, resume=...) with the same rows",
        )
    if (
        data is None
        and not recipe.data.path.startswith("hub:")
        and not Path(recipe.data.path).expanduser().exists()
    ):
        raise RunError(
            f"the data {recipe.data.path!r} is not there",
            where=str(run.recipe),
            fix=f"resume from the folder where the run was started: {record.get('started_in', 'unknown')}",
        )
    if extend_epochs is not None:
        recipe = recipe.changed({"training.epochs": extend_epochs})
        progress.say(
            f"extended to {extend_epochs:g} epochs: from here on the schedule is that of the longer run"
        )
    training = TrainingRun(recipe, run, progress, open_accelerator(recipe.training.device))
    with run.locked() if training.accelerator.is_main_process else contextlib.nullcontext():
        extending = extend_epochs is not None or bool(record.get("extended"))
        training.prepare(data, resume=True, extending=extending)
        done = int(training.state["step"]) if training.state else 0
        if extend_epochs is not None and training.plan.total_steps <= done:
            raise ConfigurationError(
                f"--extend-epochs {extend_epochs:g} is {training.plan.total_steps} steps, not more than the {done} "
                "this run already has",
                where="training.epochs",
            )
        if training.accelerator.is_main_process:
            run.update_record(extended=extending or None)
        return _work(training)


def _work(training: TrainingRun) -> Run:
    """Train and conclude; the record says at any time how far it got."""
    run, accelerator = training.run, training.accelerator
    main = accelerator.is_main_process
    if main:
        write_bytes(run.recipe, training.recipe.to_yaml().encode())
        task: Any = training.recipe.task
        write_training_texts(run, training.prepared.dataset.splits["train"], task.roles)
        run.update_record(
            state="running",
            problem=None,
            machine=describe_machine(),
            identity=training.identity,
            **_facts(training),
        )
    try:
        conclude(training, training.execute())
    except BaseException as error:
        if main:
            state = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            problem = f"{type(error).__name__}: {getattr(error, 'what', '')}"
            with contextlib.suppress(GraftError):  # a full disk must not hide what happened first
                run.update_record(state=state, problem=problem)
        raise
    accelerator.wait_for_everyone()
    return Run(run)


def _facts(training: TrainingRun) -> dict[str, Any]:
    """Return what the record says about data, base model and machine."""
    prepared = training.prepared
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
        "device": training.accelerator.device.type,
        "processes": training.accelerator.num_processes,
        "precision": "fp32" if training.autocast is None else "bf16",
    }


def _create(recipe: Recipe, exact: Path | None, accelerator: Accelerator) -> RunDirectory:
    """Create the run directory on rank 0 and tell the others its path, or why there is none: they would wait for it."""
    told: list[RunDirectory | GraftError | None] = [None]
    if accelerator.is_main_process:
        try:
            told = [_create_here(recipe, exact)]
        except GraftError as error:
            told = [error]
    broadcast_object_list(told)
    if isinstance(told[0], GraftError):
        raise told[0]
    assert told[0] is not None
    return told[0]


def _create_here(recipe: Recipe, exact: Path | None) -> RunDirectory:
    source = recipe.data.path.split("@")[0]
    if is_benchmark(source):  # called by its name, not by the folder of its files
        source = source.partition("=")[0]
    name = Path(source).name.split(".")[0] or "data"
    run = create_run(Path("runs"), name, exact)
    run.update_record(
        state="created", started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), started_in=str(Path.cwd())
    )
    return run
