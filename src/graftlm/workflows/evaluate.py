"""``graft evaluate``: score a finished model on labelled rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.data.roles import Role
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
    known = [role for role in predictor.task.roles if role.name in predictor.facts.roles]
    split = read_unseen(data, known, options, progress)
    for role in known:
        _refuse_unknown_labels(split, role, predictor.facts.labels)
    progress.stage("predicting")
    done = 0

    def on_batch(examples: int) -> None:
        nonlocal done
        done += examples
        progress.advance(done, len(split))

    predictions = predictor.predict(split, batch_size, on_batch)
    return predictor.task.score(predictions, split, predictor.learnt, **bootstrap)


def _refuse_unknown_labels(split: Split, role: Role, labels: Sequence[str]) -> None:
    if role.kind not in ("label", "label_set"):
        return
    unknown: dict[str, list[int]] = {}
    for row, value in enumerate(split.columns[role.name]):
        for name in (str(value),) if role.kind == "label" else cast("tuple[str, ...]", value):
            if name not in labels:
                unknown.setdefault(name, []).append(row)
    if unknown:
        rows = sorted({row for found in unknown.values() for row in found})
        raise DataError(
            f"{counted(len(rows), 'row')} with labels this model does not know: "
            f"{', '.join(sorted(unknown)[:10])}; it knows {', '.join(labels[:20])}",
            where=split.row_ids[rows[0]],
            fix="correct these labels or leave the rows out",
        )
