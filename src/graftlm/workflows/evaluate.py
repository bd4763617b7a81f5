"""``graft evaluate``: score a finished model on labelled rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.roles import Role
from graftlm.data.row_labels import row_labels
from graftlm.data.tag_schemes import entity_types
from graftlm.data.training_texts import rows_in_training
from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.progress import Progress, Silent
from graftlm.recipe import BATCH_TOKENS
from graftlm.reports.figures import SELECTED, collapsed, read_evaluation
from graftlm.rundir import run_around
from graftlm.scoring.scores import Scores
from graftlm.workflows.unseen_rows import read_unseen


def evaluate(
    path: Path,
    data: object,
    options: DataOptions,
    device: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
    split: str | None = None,
    precision: str = "fp32",
    **bootstrap: Any,
) -> Scores:
    """Return all metrics with intervals of a run or model folder on labelled rows.

    Where a column names the split of each row, as one did in training or as a training would find it, those of test are
    scored. Rows whose text was in training are scored as well, counted in the result, and warned about.

    Args:
        path: a run directory, a model folder or an exported one.
        data: rows in memory, or tables that were read; None reads ``options.path``.
        options: which columns hold text and label.
        device: auto, cpu, cuda or mps.
        batch_tokens: most tokens of a forward pass, padding included.
        progress: who listens.
        split: train, validation or test, where the source has splits; None: test.
        precision: see `Predictor.open`.
        bootstrap: confidence, resamples, seed.

    Raises:
        DataError: for a label the model does not know, or a row that nothing can be compared with, with its places;
            before anything is computed.
    """
    progress = progress or Silent()
    predictor = Predictor.open(path, device, precision)
    for note in predictor.notes:
        progress.say(note)
    known = predictor.trained_roles
    rows = read_unseen(
        data, known, options, predictor.facts.reading, progress, usual=("test",), wanted=split, choosable=True
    )
    for role in known:
        _refuse_unknown_labels(rows, role, predictor.facts.labels)
    trained = _count_trained(path, rows, known, progress)
    _say_what_they_chose(path, rows, predictor, progress)
    predictions = predictor.predict(rows, batch_tokens, progress, compared=True)
    same = predictor.task.same_answer(predictions, rows)
    if same is not None:
        progress.warn(collapsed(same))
    scores = predictor.task.score(predictions, rows, predictor.learnt, **bootstrap)
    return replace(scores, rows_in_training=trained, split=None if rows.name == "all" else rows.name)


def _refuse_unknown_labels(split: Split, role: Role, labels: Sequence[str]) -> None:
    # The types of entities are known by the tags that the model gives.
    known = entity_types(labels) if role.kind == "entities" else labels
    unknown: dict[str, list[int]] = {}
    for row, names in enumerate(row_labels(split.columns[role.name], role)):
        for name in names:
            if name not in known:
                unknown.setdefault(name, []).append(row)
    if unknown:
        rows = sorted({row for found in unknown.values() for row in found})
        raise DataError(
            f"{counted(len(rows), 'row')} with labels this model does not know: "
            f"{', '.join(sorted(unknown)[:10])}; it knows {', '.join(known[:20])}",
            where=split.row_ids[rows[0]],
            fix="correct these labels or leave the rows out",
        )


def _say_what_they_chose(path: Path, split: Split, predictor: Predictor, progress: Progress) -> None:
    """Warn where these are the validation rows; a model folder without its run does not tell whether they chose."""
    if split.fingerprint != predictor.facts.data.get("validation"):
        return
    run = run_around(path)
    if run is None or read_evaluation(run, "validation")["selected"]:
        progress.warn(f"{SELECTED}, so expect less on new rows")


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
