"""``graft evaluate``: score a finished model on labelled rows it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.progress import Progress, Silent
from graftlm.scoring.scores import Scores
from graftlm.workflows.unseen_rows import read_unseen


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
    progress.stage("predicting")
    done = 0

    def on_batch(examples: int) -> None:
        nonlocal done
        done += examples
        progress.advance(done, len(split))

    logits = predictor.logits(split, batch_size, on_batch)
    return predictor.task.score(logits, predictor.task.targets(split, labels), labels, **bootstrap)
