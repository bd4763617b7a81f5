"""What every verb that trains does with its run directory."""

from __future__ import annotations

import contextlib
import platform
import shutil
import time
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from graftlm.errors import GraftError, Interrupted, RunError
from graftlm.rundir import RunDirectory, create_run, write_bytes
from graftlm.training_run import TrainingRun


@contextlib.contextmanager
def begin(
    name: str,
    exact: Path | None,
    accelerator: Accelerator,
    kept_by: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Generator[RunDirectory]:
    """Create a run directory; where the block raises, it is gone again: nothing happened yet.

    Args:
        name: a hint such as the stem of the data file.
        exact: the folder to create; None makes ``runs/<name>-<date>-<time>``.
        accelerator: of this process; rank 0 creates it and tells the others its path.
        kept_by: what leaves the directory as it is, because the work inside the block can go on.
    """
    run = _create(name, exact, accelerator)
    try:
        yield run
    except kept_by:
        raise
    except BaseException:
        if accelerator.is_main_process:
            shutil.rmtree(run.path, ignore_errors=True)
        raise


@contextlib.contextmanager
def recorded(training: TrainingRun[Any], recipe_yaml: str, facts: dict[str, Any]) -> Generator[None]:
    """Let the record of the run say at any time how far the work inside the block got."""
    run, accelerator = training.run, training.accelerator
    if accelerator.is_main_process:
        write_bytes(run.recipe, recipe_yaml.encode())
        run.update_record(
            state="running",
            problem=None,
            machine=describe_machine(),
            identity=training.identity,
            device=accelerator.device.type,
            processes=accelerator.num_processes,
            precision="fp32" if training.plan.autocast is None else "bf16",
            **facts,
        )
    try:
        yield
    except BaseException as error:
        if accelerator.is_main_process:
            state = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            problem = f"{type(error).__name__}: {getattr(error, 'what', '')}"
            with contextlib.suppress(GraftError):  # a full disk must not hide what happened first
                run.update_record(state=state, problem=problem)
        raise


def require_there(path: str, run: RunDirectory, record: dict[str, Any]) -> None:
    """Refuse to continue where the data that the recipe names is not.

    Args:
        path: as the recipe names it; what is on the hub is not looked for.
        run: that is continued.
        record: of the run.

    Raises:
        RunError: it is not there, perhaps since the run was started in another folder.
    """
    if not path.startswith("hub:") and not Path(path).expanduser().exists():
        raise RunError(
            f"the data {path!r} is not there",
            where=str(run.recipe),
            fix=f"resume from the folder where the run was started: {record.get('started_in', 'unknown')}",
        )


def describe_machine() -> dict[str, Any]:
    """Return versions and hardware for the run record."""
    names = (
        "graftlm",
        "torch",
        "transformers",
        "accelerate",
        "tokenizers",
        "safetensors",
        "numpy",
        "datasets",
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in names},
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _create(name: str, exact: Path | None, accelerator: Accelerator) -> RunDirectory:
    """Create the run directory on rank 0 and tell the others its path, or why there is none: they would wait for it."""
    told: list[RunDirectory | GraftError | None] = [None]
    if accelerator.is_main_process:
        try:
            run = create_run(Path("runs"), name, exact)
            run.update_record(
                state="created", started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), started_in=str(Path.cwd())
            )
            told = [run]
        except GraftError as error:
            told = [error]
    broadcast_object_list(told)
    if isinstance(told[0], GraftError):
        raise told[0]
    assert told[0] is not None
    return told[0]
