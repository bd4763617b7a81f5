"""``graft evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from graftlm.errors import ConfigurationError, RunError


def evaluate(
    run: Path,
    source: str | None = None,
    *overrides: str,
    split: Literal["train", "validation", "test"] | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    int8: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Score a finished model on labelled rows, or show the scores a run already has.

    Parameters
    ----------
    run
        A run directory, a model folder or an exported folder.
    source
        A labelled data file or folder; left out, the stored scores of the run are shown. Where it has splits, by files
        or by a column, test is scored; data.split_column=null scores all rows.
    overrides
        Keys that say how rows are read, computed and scored, for instance data.columns.text=review; any other is
        refused.
    split
        Score another split than test.
    json_output
        Print the scores as one JSON object on standard output.
    quiet
        No progress.
    int8
        Of an exported folder, score its quantised network.
    """
    import contextlib

    from graftlm.cli.results import print_scores
    from graftlm.cli.words import split_words
    from graftlm.progress import Silent
    from graftlm.recipe import load_part
    from graftlm.reports.display import Display
    from graftlm.rundir import require_folder

    require_folder(run)
    source, overrides = split_words(source, overrides)
    if source is None:
        if overrides or split or int8:
            raise ConfigurationError(
                "stored scores are shown as they are; options need rows to score",
                fix="name a labelled data file or folder",
            )
        return _show_stored(run, json_output)
    from graftlm.data.loading import read_tables
    from graftlm.workflows.unseen_rows import EVALUATION_KEYS

    recipe = load_part("graft evaluate", EVALUATION_KEYS, overrides, source)
    tables = read_tables(None, recipe.data)
    # Only now is torch loaded: stored scores are shown, and files that cannot be read refused, without it.
    from graftlm.workflows.evaluate import evaluate as score

    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet else stack.enter_context(Display())
        scores = score(
            run,
            tables,
            recipe.data,
            recipe.training.device,
            recipe.evaluation.batch_tokens,
            progress,
            split,
            "int8" if int8 else "fp32",
            confidence=recipe.evaluation.confidence,
            resamples=recipe.evaluation.resamples,
            seed=recipe.seed,
        )
    if json_output:
        print(json.dumps(scores.dump(), ensure_ascii=False))
    else:
        print_scores(scores, source)
    return 0


def _show_stored(path: Path, as_json: bool) -> int:
    """Show the scores that a run already has."""
    from graftlm.cli.results import print_pretraining, print_result
    from graftlm.run import Run

    run = Run.open(path)
    if run.record["state"] != "finished":
        raise RunError(
            f"this run is {run.record['state']}, so it has no scores yet",
            where=str(path),
            fix=f"continue it: {run.directory.resume_command}",
        )
    if run.directory.verb == "pretrain":
        print_pretraining(run.directory, as_json, quiet=False)
    else:
        print_result(run, as_json, quiet=False)
    return 0
