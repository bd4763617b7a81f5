"""``graft predict``: texts in, one prediction a line out, in the order of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from graftlm.data.dataset import Split
from graftlm.data.messages import Message
from graftlm.data.options import DataOptions
from graftlm.data.table import Tables
from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.progress import Progress, Silent
from graftlm.recipe import BATCH_TOKENS
from graftlm.workflows.unseen_rows import read_unseen

# Rows predicted at a time: enough to sort by length well, few enough to give results early.
_CHUNK = 2048


def predict_file(
    predictor: Predictor,
    options: DataOptions,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
    tables: Tables | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one record per row of a data file, or of its tables: row id, label, score, scores."""
    progress = progress or Silent()
    for note in predictor.notes:
        progress.say(note)
    progress.stage("reading the data")
    split = read_unseen(tables, predictor.roles, options, predictor.facts.reading, progress)
    progress.stage("predicting")
    for start in range(0, len(split), _CHUNK):
        yield from _records(
            predictor, split.take(range(start, min(start + _CHUNK, len(split)))), batch_tokens
        )
        progress.advance(min(start + _CHUNK, len(split)), len(split))


def predict_lines(
    predictor: Predictor, lines: Iterable[bytes], batch_tokens: int = BATCH_TOKENS
) -> Iterator[dict[str, Any]]:
    """Yield one record per line of UTF-8 text, for standard input; lines are numbered from 1.

    A line without text gets a record with an ``error`` in place of a label: answers stay lined up with lines.

    Raises:
        DataError: the model reads more than one text a row.
    """
    if len(predictor.roles) > 1:
        raise DataError(
            f"this model reads {' and '.join(role.name for role in predictor.roles)} of each row, a line holds "
            "one text",
            fix="write the rows into a file (.csv, .jsonl) and name it",
        )
    numbered = ((f"line {number}", text) for number, text in enumerate(decoded_lines(lines), start=1))
    while chunk := list(islice(numbered, _CHUNK)):
        full = [(place, text) for place, text in chunk if text.strip()]
        (role,) = predictor.roles
        said = [_turn(text) if role.kind == "messages" else text for _, text in full]
        columns: dict[str, list[object]] = {role.name: said}
        answers = _records(predictor, Split("lines", columns, [place for place, _ in full]), batch_tokens)
        for place, text in chunk:
            yield next(answers) if text.strip() else {"row": place, "error": "the line is empty"}


def _turn(text: str) -> object:
    """A line on its own begins a conversation."""
    return (Message("user", text.strip()),)


def decoded_lines(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of each line, without its end.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(lines, start=1):
        yield _text(line, number)


def _text(line: bytes, number: int) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {line[error.start]:#04x} is not UTF-8",
            where=f"line {number}",
            fix="convert the text, for instance with iconv -t utf-8",
        ) from None
    return text


def _records(predictor: Predictor, split: Split, batch_tokens: int) -> Iterator[dict[str, Any]]:
    for row, prediction in zip(split.row_ids, predictor.predict(split, batch_tokens), strict=True):
        yield {"row": row, **predictor.task.record(prediction)}
