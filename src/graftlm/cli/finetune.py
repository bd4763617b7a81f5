"""``graft finetune``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from graftlm.errors import ConfigurationError


def finetune(
    source: str | None = None,
    *overrides: str,
    run_dir: Path | None = None,
    resume: Path | None = None,
    extend_epochs: float | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Fine-tune a model on a data file or by a recipe, evaluate it, save it and prove it.

    Parameters
    ----------
    source
        A data file or folder (.csv, .tsv, .jsonl, .parquet, hub:org/name, glue:rte), or a recipe (.yaml).
    overrides
        Recipe keys, for instance training.epochs=3 base=bundled:minilm-l6 (see `graft options`).
    run_dir
        The run directory to create; by default one under runs/.
    resume
        Continue this run directory exactly where its newest checkpoint stands.
    extend_epochs
        With --resume: train a finished run on to this many epochs, with a new schedule.
    dry_run
        Print the complete recipe and what the run will cost, and stop.
    json_output
        Print the result, or that of --dry-run, as one JSON object on standard output.
    quiet
        No progress and no result table.
    """
    from graftlm.cli.words import recipe_or_data, split_words
    from graftlm.opening import open_rows
    from graftlm.progress import Silent
    from graftlm.reports.display import Display

    source, overrides = split_words(source, overrides)
    if (source is None) == (resume is None):
        raise ConfigurationError(
            "either a data file or recipe, or --resume RUN is needed"
            + (", not both" if resume is not None else ""),
            fix="for instance: graft finetune reviews.csv",
        )
    if extend_epochs is not None and resume is None:
        raise ConfigurationError(
            "--extend-epochs goes with --resume RUN", fix="for a new run set training.epochs=N"
        )
    # Of several processes (torchrun) only the first speaks.
    first = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first
    with contextlib.ExitStack() as stack:
        if resume is not None:
            if overrides or dry_run or run_dir:
                raise ConfigurationError(
                    "a resumed run keeps its recipe and its directory",
                    fix="leave everything else out (--extend-epochs N trains it further), or start a new run",
                )
            from graftlm.workflows.finetune import resume as continue_run

            progress = Silent() if quiet else stack.enter_context(Display())
            run = continue_run(resume, None, extend_epochs, progress)
        else:
            assert source is not None
            file, changes = recipe_or_data(source, overrides)
            recipe, tables = open_rows(file, changes)
            if dry_run:
                from graftlm.workflows.dry_run import dry_run as preview

                found = preview(recipe, tables)
                print(found.to_json() if json_output else found.to_yaml().removesuffix("\n"))
                return 0
            from graftlm.workflows.finetune import finetune as train

            progress = Silent() if quiet else stack.enter_context(Display())
            run = train(recipe, tables, run_dir, progress)
    from graftlm.cli.results import print_result

    if first:
        print_result(run, json_output, quiet)
    return 0
