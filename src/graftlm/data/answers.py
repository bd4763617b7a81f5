"""Answers that are spans of a context: their texts, and where in the context each begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graftlm.data.dataset import Split
from graftlm.data.places import counted, first_places
from graftlm.data.table import Table
from graftlm.errors import DataError, clip

Answer = tuple[str, int | None]
"""The text of an answer and the position of its first character in the context; None where it is not known."""
START_COLUMN = "answer_start"
"""Holds the position of the answer where the answers column holds a text."""
MOST_LOST_SHARE = 0.01
"""More rows than this whose answer is not in the context are a broken file."""

_FORMS = (
    'write a list of {"text": ..., "answer_start": ...}, or {"text": [...], "answer_start": [...]}, or a text with '
    f"the column {START_COLUMN} beside it; an empty list or text where the context holds no answer"
)


def answers(table: Table, column: str) -> list[object]:
    """Return a tuple of `Answer` for each row; an empty one says that the context holds no answer.

    Args:
        table: where the column is; its column ``answer_start`` tells positions where ``column`` holds texts.
        column: texts, lists of mappings, or mappings of two lists as in the SQuAD files of model hubs.

    Raises:
        DataError: a value is missing or of another form, an answer is empty, a position is no whole number.
    """
    starts = table.columns.get(START_COLUMN, [None] * len(table))
    found = [_answers(value, start) for value, start in zip(table.columns[column], starts, strict=True)]
    wrong = [row for row, value in enumerate(found) if value is None]
    if wrong:
        raise DataError(
            f"the answers column {clip(column)} holds no answers in {counted(len(wrong), 'row')} (for instance "
            f"{type(table.columns[column][wrong[0]]).__name__}); first: "
            f"{first_places([table.place(row) for row in wrong[:5]], len(wrong))}",
            where=table.source,
            fix=_FORMS,
        )
    return list(found)


def _answers(value: object, start: object) -> tuple[Answer, ...] | None:
    """Return what a value says, None where it is malformed."""
    if isinstance(value, str):
        return _pairs([value], [start]) if value.strip() else ()
    if isinstance(value, Mapping):
        both = cast("Mapping[str, object]", value)
        texts, positions = _list(both.get("text")), _list(both.get("answer_start"))
        return None if texts is None or positions is None else _pairs(texts, positions)
    entries = _list(value)
    if entries is None or not all(isinstance(entry, Mapping) for entry in entries):
        return None
    spans = cast("list[Mapping[str, object]]", entries)
    return _pairs([span.get("text") for span in spans], [span.get("answer_start") for span in spans])


def _list(value: object) -> list[object] | None:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):  # in a DataFrame
        value = cast("Any", value).tolist()
    return list(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else None


def _pairs(texts: Sequence[object], starts: Sequence[object]) -> tuple[Answer, ...] | None:
    if len(texts) != len(starts):
        return None
    pairs: list[Answer] = []
    for text, start in zip(texts, starts, strict=True):
        if isinstance(start, str):
            if not (start.strip().isdecimal() or not start.strip()):
                return None
            start = int(start) if start.strip() else None
        if not isinstance(text, str) or not text.strip() or not (start is None or _whole(start)):
            return None
        pairs.append((text, cast("int | None", start)))
    return tuple(dict.fromkeys(pairs))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Located:
    """A split whose answers are where they say.

    Args:
        split: with positions repaired; an answer that is not in the context has none.
        lost: rows that have answers, none of which has a position: they can be scored, not trained on.
        sentences: what was repaired and how many questions have no answer, for the user.
    """

    split: Split
    lost: list[int]
    sentences: list[str]


def locate_answers(split: Split, role: str, context_role: str) -> Located:
    """Check that each answer stands at its position; repair it where the context holds the answer exactly once.

    Raises:
        DataError: more than 1 % of the rows hold no answer that is found.
    """
    rows = cast("list[tuple[Answer, ...]]", split.columns[role])
    contexts = cast("list[str]", split.columns[context_role])
    checked: list[object] = []
    repaired: list[int] = []
    lost: list[int] = []
    for row, (given, context) in enumerate(zip(rows, contexts, strict=True)):
        placed = tuple((text, _position(text, start, context)) for text, start in given)
        checked.append(placed)
        if given and all(start is None for _, start in placed):
            lost.append(row)
        elif placed != given:
            repaired.append(row)
    places = first_places([split.row_ids[row] for row in lost[:5]], len(lost))
    if len(lost) > MOST_LOST_SHARE * len(split):
        raise DataError(
            f"{split.name}: in {len(lost):,} of {counted(len(split), 'row')} no answer stands at its "
            f"{START_COLUMN}, and its text does not occur exactly once in the context; first: {places}",
            where=split.row_ids[lost[0]],
            fix=f"correct {START_COLUMN}: it counts characters of the context from 0, and the context must hold "
            "the answer letter by letter",
        )
    return Located(
        Split(split.name, {**split.columns, role: checked}, split.row_ids),
        lost,
        _sentences(split, repaired, sum(not given for given in rows)),
    )


def _position(text: str, start: int | None, context: str) -> int | None:
    if start is not None and start >= 0 and context.startswith(text, start):
        return start
    first = context.find(text)
    return first if first >= 0 and context.find(text, first + 1) < 0 else None


def _sentences(split: Split, repaired: Sequence[int], unanswerable: int) -> list[str]:
    sentences: list[str] = []
    name = split.name.capitalize()
    if repaired:
        places = first_places([split.row_ids[row] for row in repaired[:5]], len(repaired))
        sentences.append(
            f"{name}: {counted(len(repaired), 'row')} with a wrong or missing {START_COLUMN}, corrected where the "
            f"answer occurs exactly once in the context: {places}."
        )
    if unanswerable:
        sentences.append(
            f"{name}: {unanswerable:,} of {counted(len(split), 'question')} have no answer in the context."
        )
    return sentences
