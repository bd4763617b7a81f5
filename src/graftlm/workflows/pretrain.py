"""``graft pretrain``: raw text in, a proved base model out."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from graftlm.errors import ConfigurationError, MissingResource, RunError
from graftlm.pretraining import Pretraining
from graftlm.pretraining_conclusion import conclude
from graftlm.pretraining_recipe import PretrainingRecipe, load_pretraining
from graftlm.progress import Progress, Silent
from graftlm.rundir import RunDirectory, write_bytes
from graftlm.training.devices import open_accelerator, resolve_precision
from graftlm.training.order import shares_of_longer_run
from graftlm.training_run import TrainingRun
from graftlm.workflows.running import begin, recorded, require_there

_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Unfinished(MissingResource):
    """The machine lacked something while the corpus was prepared: what is written of it is kept."""


def pretrain(
    recipe: PretrainingRecipe, run_directory: Path | None = None, progress: Progress | None = None
) -> RunDirectory:
    """Pretrain, evaluate, save and prove a base model; return the run directory, whose ``model`` folder it is.

    Args:
        recipe: complete; see `graftlm.pretraining_recipe.load_pretraining`.
        run_directory: a folder to create; None makes ``runs/<corpus name>-<date>-<time>``.
        progress: who listens; None is silence.
    """
    progress = progress or Silent()
    accelerator = open_accelerator(recipe.training.device)
    name = Path(recipe.corpus.path.removeprefix("hub:").partition("@")[0]).name.split(".")[0]
    with begin(name or "corpus", run_directory, accelerator, kept_by=(KeyboardInterrupt, _Unfinished)) as run:
        if accelerator.is_main_process:  # an interrupted preparation of the corpus goes on with --resume
            write_bytes(run.recipe, recipe.to_yaml().encode())
        training = _prepared(recipe, run, progress, accelerator)
    with run.locked() if accelerator.is_main_process else contextlib.nullcontext():
        return _work(training)


def resume(path: Path, extend_epochs: float | None = None, progress: Progress | None = None) -> RunDirectory:
    """Continue an interrupted pretraining exactly, or extend a finished one with a new schedule.

    Args:
        path: the run directory.
        extend_epochs: total passes of the longer run.
        progress: who listens; None is silence.
    """
    progress = progress or Silent()
    run = RunDirectory(path)
    record = run.read_record()
    if not run.recipe.exists():
        raise RunError("this run was stopped before it began", where=str(path), fix="start it again")
    run.require_made_by("pretrain")
    recipe = load_pretraining(run.recipe)
    if record["state"] == "finished" and extend_epochs is None:
        raise RunError("this run is finished", where=str(path), fix="--extend-epochs N trains it further")
    for text in (recipe.corpus, recipe.evaluation.general_text):
        if text is not None:
            require_there(text.path, run, record)
    if extend_epochs is not None:
        if extend_epochs <= recipe.training.epochs:
            raise ConfigurationError(
                f"--extend-epochs {extend_epochs:g} is not more than the {recipe.training.epochs:g} of this run",
                where="training.epochs",
                fix="name all passes of the longer run, those that were done among them",
            )
        recipe = _extended(recipe, extend_epochs)
        progress.say(
            f"extended to {extend_epochs:g} epochs: from here on the schedule is that of the longer run"
        )
    accelerator = open_accelerator(recipe.training.device)
    extending = extend_epochs is not None or bool(record.get("extended"))
    with run.locked() if accelerator.is_main_process else contextlib.nullcontext():
        training = _prepared(recipe, run, progress, accelerator)
        if record["state"] != "created":
            training.restore(extending)
        done = int(training.state["step"]) if training.state else 0
        if extend_epochs is not None and training.plan.total_steps <= done:
            raise ConfigurationError(
                f"--extend-epochs {extend_epochs:g} is {training.plan.total_steps} steps, not more than the {done} "
                "this run already has",
                where="training.epochs",
            )
        if accelerator.is_main_process:
            run.update_record(extended=extending or None)
        return _work(training)


def _extended(recipe: PretrainingRecipe, epochs: float) -> PretrainingRecipe:
    """Return the recipe of a longer run, whose first steps are those that were done."""
    training = recipe.training
    growing, short = shares_of_longer_run(
        training.epochs, training.batch_warmup_share, training.short_share, epochs
    )
    # Shares of more steps would be more of them: the order would be another one, and short examples would come again.
    return recipe.changed(
        {
            "training.epochs": epochs,
            "training.batch_warmup_share": growing,
            "training.short_share": short,
        }
    )


def _prepared(
    recipe: PretrainingRecipe, run: RunDirectory, progress: Progress, accelerator: Accelerator
) -> TrainingRun[Pretraining]:
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    with _kept_where_begun(run):
        subject = Pretraining(recipe, run, accelerator, autocast, progress)
    return TrainingRun(subject, run, progress, accelerator)


@contextlib.contextmanager
def _kept_where_begun(run: RunDirectory) -> Generator[None]:
    """Say how to go on where the disk is full, or the network gone, after hours that went into tokenizer and corpus."""
    try:
        yield
    except (MissingResource, OSError) as error:
        begun = run.corpus.exists() or any(run.tokenizer.glob("*.json"))
        if not begun or (isinstance(error, OSError) and error.errno not in _FULL):
            raise
        what, where, fix = (
            (f"cannot be written: {error.strerror}", str(error.filename or run.path), "free disk space")
            if isinstance(error, OSError)
            else (error.what, error.where, error.fix)
        )
        raise _Unfinished(
            what,
            where=where,
            fix=f"{fix or 'mend this'}; then go on from what is written: graft pretrain --resume {run.path}",
        ) from None


def _work(training: TrainingRun[Pretraining]) -> RunDirectory:
    """Train and conclude; the record says at any time how far it got."""
    subject = training.subject
    facts: dict[str, Any] = {
        "corpus": subject.corpus.facts, "base": {"name": subject.recipe.base}, "tokenizer": subject.tokenizer_report,
    }  # fmt: skip
    with recorded(training, subject.recipe.to_yaml(), facts):
        conclude(training, training.execute())
    training.accelerator.wait_for_everyone()
    return training.run
