"""``graft predict``: texts in, one prediction a line out, in the order of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.whole import assemble_rows
from graftlm.predictor import Predictor
from graftlm.progress import Progress, Silent

# Rows predicted at a time: enough to sort by length well, few enough to give results early.
_CHUNK = 2048


def predict_file(
    predictor: Predictor, options: DataOptions, batch_size: int = 32, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one record per row of a data file: row id, label, score, scores."""
    progress = progress or Silent()
    progress.stage("reading the data")
    texts = [role for role in predictor.task.roles if role.kind == "text"]
    split = assemble_rows(read_tables(None, options), texts, options)
    progress.stage("predicting")
    for start in range(0, len(split), _CHUNK):
        part = split.take(range(start, min(start + _CHUNK, len(split))))
        logits = predictor.logits(part, batch_size)
        for row, prediction in zip(
            part.row_ids, predictor.task.decode(logits, predictor.facts.labels), strict=True
        ):
            yield {"row": row, **predictor.task.record(prediction)}
        progress.advance(min(start + _CHUNK, len(split)), len(split))


def predict_lines(
    predictor: Predictor, lines: Iterable[str], batch_size: int = 32
) -> Iterator[dict[str, Any]]:
    """Yield one record per line of text, for standard input; lines are numbered from 1."""
    numbered = enumerate((line.rstrip("\r\n") for line in lines), start=1)
    while chunk := list(islice(numbered, _CHUNK)):
        predictions = predictor([text for _, text in chunk], batch_size)
        for (number, _), prediction in zip(chunk, predictions, strict=True):
            yield {"row": f"line {number}", **predictor.task.record(prediction)}


def open_predictor(path: Path, device: str = "auto") -> Predictor:
    """Load the model of a run."""
    return Predictor.open(path, device)
