"""``graft evaluate``: score a finished model on labelled rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graftlm.data.columns import Role
from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.training_texts import rows_in_training
from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.progress import Progress, Silent
from graftlm.rundir import run_around
from graftlm.scoring.scores import Scores
from graftlm.workflows.unseen_rows import COMPUTING_KEYS, READING_KEYS, read_unseen

EVALUATION_KEYS = (*READING_KEYS, *COMPUTING_KEYS, "evaluation.confidence", "evaluation.resamples", "seed")


def evaluate(
    path: Path,
    data: object,
    options: DataOptions,
    device: str = "auto",
    batch_size: int = 32,
    progress: Progress | None = None,
    **bootstrap: Any,
) -> Scores:
    """Return all metrics with intervals of a run or model folder on labelled rows.

    Rows whose text was in training are scored as well, counted in the result, and warned about.

    Args:
        path: a run directory or a model folder.
        data: rows in memory, or None to read ``options.path``.
        options: which columns hold text and label.
        device: auto, cpu, cuda or mps.
        batch_size: examples per forward pass.
        progress: who listens.
        bootstrap: confidence, resamples, seed.

    Raises:
        DataError: for a label the model does not know, with its places.
    """
    progress = progress or Silent()
    predictor = Predictor.open(path, device)
    split = read_unseen(data, predictor.task.roles, options, progress)
    labels = predictor.facts.labels
    strange = [row for row, label in enumerate(split.columns["label"]) if label not in labels]
    if strange:
        names = sorted({str(split.columns["label"][row]) for row in strange})
        raise DataError(
            f"{counted(len(strange), 'row')} with labels this model does not know: {', '.join(names[:10])}; "
            f"it knows {', '.join(labels[:20])}",
            where=split.row_ids[strange[0]],
            fix="correct these labels or leave the rows out",
        )
    trained = _count_trained(path, split, predictor.task.roles, progress)
    progress.stage("predicting")
    done = 0

    def on_batch(examples: int) -> None:
        nonlocal done
        done += examples
        progress.advance(done, len(split))

    logits = predictor.logits(split, batch_size, on_batch)
    scores = predictor.task.score(logits, predictor.task.targets(split, labels), labels, **bootstrap)
    return replace(scores, rows_in_training=trained)


def _count_trained(path: Path, split: Split, roles: Sequence[Role], progress: Progress) -> int | None:
    """Return how many rows have a text that was in training, and warn; None where the run is not at hand."""
    run = run_around(path)
    rows = None if run is None else rows_in_training(run, split, roles)
    if rows:
        progress.warn(
            f"{len(rows):,} of {counted(len(split), 'row')} with a text that was in training (apart from case and "
            f"white space), for which the score is optimistic; first "
            f"{first_places([split.row_ids[row] for row in rows])}. What to do: leave these rows out"
        )
    return None if rows is None else len(rows)
