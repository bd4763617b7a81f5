"""``graft pretrain``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from graftlm.errors import ConfigurationError


def pretrain(
    source: str | None = None,
    *overrides: str,
    run_dir: Path | None = None,
    resume: Path | None = None,
    extend_epochs: float | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    architectures: Annotated[bool, Parameter(negative="")] = False,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Pretrain a base model on raw text, from nothing or further, save it and prove it.

    Parameters
    ----------
    source
        A text file or folder (.txt, .jsonl, .parquet, also .gz, hub:org/name), or a recipe (.yaml).
    overrides
        Recipe keys, for instance base=bert-mini training.epochs=10 objective.pairs=next_sentence.
    run_dir
        The run directory to create; by default one under runs/.
    resume
        Continue this run directory exactly where its newest checkpoint stands.
    extend_epochs
        With --resume: train a finished run on to this many passes, with a new schedule.
    dry_run
        Print the complete recipe and what the run will cost, and stop.
    architectures
        List the architectures that can be named in `base`, and stop.
    json_output
        Print the result, or that of --dry-run, as one JSON object on standard output.
    quiet
        No progress and no result table.
    """
    from graftlm.cli.words import recipe_or_data, split_words
    from graftlm.pretraining_recipe import PRETRAINING, PretrainingRecipe, load_pretraining, look_first
    from graftlm.progress import Silent
    from graftlm.reports.display import Display

    if architectures:
        from graftlm.models.architecture_sizes import names

        print("\n".join(names()))
        return 0
    source, overrides = split_words(source, overrides, PretrainingRecipe)
    _check_words(source, resume, extend_epochs)
    # Of several processes (torchrun) only the first speaks.
    first = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet else stack.enter_context(Display())
        if resume is not None:
            if overrides or dry_run or run_dir:
                raise ConfigurationError(
                    "a resumed run keeps its recipe and its directory",
                    fix="leave everything else out (--extend-epochs N trains it further), or start a new run",
                )
            from graftlm.workflows.pretrain import resume as continue_run

            run = continue_run(resume, extend_epochs, progress)
        else:
            assert source is not None
            written = recipe_or_data(source, overrides, "corpus.path")
            look_first(PRETRAINING.outline(*written))
            recipe = load_pretraining(*written)
            if dry_run:
                from graftlm.workflows.dry_run import dry_run_pretraining as preview

                found = preview(recipe, progress)
                print(found.to_json() if json_output else found.to_yaml().removesuffix("\n"))
                return 0
            from graftlm.workflows.pretrain import pretrain as train

            run = train(recipe, run_dir, progress)
    if first:
        from graftlm.cli.results import print_pretraining

        print_pretraining(run, json_output, quiet)
    return 0


def _check_words(source: str | None, resume: Path | None, extend_epochs: float | None) -> None:
    """Refuse words that do not go together."""
    if (source is None) == (resume is None):
        raise ConfigurationError(
            "either a text file, a folder or a recipe, or --resume RUN is needed"
            + (", not both" if resume is not None else ""),
            fix="for instance: graft pretrain texts/ base=bert-mini",
        )
    if extend_epochs is not None and resume is None:
        raise ConfigurationError(
            "--extend-epochs goes with --resume RUN", fix="for a new run set training.epochs=N"
        )
