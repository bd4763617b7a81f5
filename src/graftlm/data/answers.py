"""Answers that are spans of a context: their texts, and where in the context each begins."""

from __future__ import annotations

import math
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
"""More rows than this, and more than one, whose answer is not in the context are a broken file."""
_LOOKED_AT = 1000
_MOST_LABELS = 2
_FEWEST_FOUND_SHARE = 0.75
_FEWEST_OFF_BY_ONE_SHARE = 0.95

_FORMS = (
    'write a list of {"text": ..., "answer_start": ...}, or {"text": [...], "answer_start": [...]}, or a text with '
    f"the column {START_COLUMN} beside it, or texts alone; an empty list or text where the context holds no answer"
)


def answers(table: Table, column: str) -> list[object]:
    """Return a tuple of `Answer` for each row; an empty one says that the context holds no answer.

    Args:
        table: where the column is; its column ``answer_start`` tells positions where ``column`` holds texts.
        column: texts, lists of texts or of mappings, or mappings of two lists as in the SQuAD files of model hubs.

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
    if entries and all(isinstance(entry, str) for entry in entries):
        return _pairs(entries, [None] * len(entries))
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
        if isinstance(start, float):  # pandas writes positions so where some rows have none
            start = None if math.isnan(start) else int(start) if start.is_integer() else start
        if not isinstance(text, str) or not text.strip() or not (start is None or _whole(start)):
            return None
        pairs.append((text, cast("int | None", start)))
    return tuple(dict.fromkeys(pairs))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def mostly_found(values: Sequence[object], contexts: Sequence[object]) -> bool:
    """Whether texts are answers that their contexts hold, rather than a few labels such as yes and no, or A to D."""
    pairs = zip(values[:_LOOKED_AT], contexts[:_LOOKED_AT], strict=True)
    answered = [(text.strip(), context) for text, context in pairs if isinstance(text, str) and text.strip()]
    found = [
        text for text, context in answered if len(text) > 1 and isinstance(context, str) and text in context
    ]
    return len(set(found)) > _MOST_LABELS and len(found) >= _FEWEST_FOUND_SHARE * len(answered)


@dataclass(frozen=True)
class Located:
    """A split whose answers are where they say.

    Args:
        split: with positions repaired; an answer that is not in the context has none.
        lost: rows that have answers, none of which has a position: they can be scored, not trained on.
        sentences: what was repaired and lost, and how many questions have no answer, for the user.
    """

    split: Split
    lost: list[int]
    sentences: list[str]


def locate_answers(split: Split, role: str, context_role: str) -> Located:
    """Check that each answer stands at its position; repair it where the context holds the answer exactly once.

    Raises:
        DataError: the answers of more than 1 % of the rows, and of more than one, are not found; or no row of train
            remains that has an answer with a position.
    """
    rows = cast("list[tuple[Answer, ...]]", split.columns[role])
    contexts = cast("list[str]", split.columns[context_role])
    checked: list[object] = []
    repaired: list[int] = []
    missing: list[int] = []
    ambiguous: list[int] = []  # nothing is wrong with these, but nobody knows which passage is meant
    for row, (given, context) in enumerate(zip(rows, contexts, strict=True)):
        placed = tuple((text, _position(text, start, context)) for text, start in given)
        checked.append(placed)
        if given and all(start is None for _, start in placed):
            several = all(start is None for _, start in given) and any(text in context for text, _ in given)
            (ambiguous if several else missing).append(row)
        elif placed != given:
            repaired.append(row)
    answered = sum(map(bool, rows))
    lost = sorted(missing + ambiguous)
    if len(missing) > max(1, MOST_LOST_SHARE * len(split)) or (
        split.name == "train" and answered == len(lost) > 0
    ):
        raise _nowhere(split, rows, contexts, missing or ambiguous)
    sentences = [
        *_repaired(split, rows, repaired),
        *_lost(split, missing, "whose answer is not found in the context"),
        *_lost(split, ambiguous, f"without {START_COLUMN} whose answer the context holds several times"),
    ]
    if answered < len(split):
        sentences.append(
            f"{split.name.capitalize()}: {len(split) - answered:,} of {counted(len(split), 'question')} have no "
            "answer in the context."
        )
    return Located(Split(split.name, {**split.columns, role: checked}, split.row_ids), lost, sentences)


def _position(text: str, start: int | None, context: str) -> int | None:
    if start is not None and _stands(text, start, context):
        return start
    first = context.find(text)
    return first if first >= 0 and context.find(text, first + 1) < 0 else None


def _stands(text: str, start: int, context: str) -> bool:
    return start >= 0 and context.startswith(text, start)


def _nowhere(
    split: Split, rows: Sequence[Sequence[Answer]], contexts: Sequence[str], lost: Sequence[int]
) -> DataError:
    given = any(start is not None for answers in rows for _, start in answers)
    what = f"no answer stands at its {START_COLUMN}" if given else f"there is no {START_COLUMN}"
    return DataError(
        f"{split.name}: in {len(lost):,} of {counted(len(split), 'row')} {what}, and its text does not occur exactly "
        f"once in the context; first: {_places(split, lost)}",
        where=split.row_ids[lost[0]],
        fix=_counted_from_one(rows, contexts)
        or f"correct these rows, or remove them: {START_COLUMN} counts characters of the context from 0, and the "
        f"context must hold the answer letter by letter. Up to {MOST_LOST_SHARE:.0%} of the rows, or a single one, are "
        "left out aloud where the answer is not found",
    )


def _counted_from_one(rows: Sequence[Sequence[Answer]], contexts: Sequence[str]) -> str:
    """Return what to do where most positions are wrong, and nearly all of these by one character."""
    placed = [
        (text, start, context)
        for answers, context in zip(rows, contexts, strict=True)
        for text, start in answers
        if start is not None
    ]
    wrong = [each for each in placed if not _stands(*each)]
    before = sum(_stands(text, start - 1, context) for text, start, context in wrong)
    if len(wrong) * 2 <= len(placed) or before < _FEWEST_OFF_BY_ONE_SHARE * len(wrong):
        return ""
    return (
        f"{START_COLUMN} looks counted from 1: subtract 1 from each; {before:,} of {counted(len(wrong), 'wrong one')} "
        "are then right"
    )


def _repaired(split: Split, rows: Sequence[Sequence[Answer]], repaired: Sequence[int]) -> list[str]:
    if not repaired:
        return []
    if all(start is None for answers in rows for _, start in answers):
        return [
            f"{split.name.capitalize()}: there is no {START_COLUMN}; the answer of {counted(len(repaired), 'row')} is "
            "where it occurs exactly once in the context."
        ]
    return [
        f"{split.name.capitalize()}: {counted(len(repaired), 'row')} with a wrong or missing {START_COLUMN}, corrected "
        f"where the answer occurs exactly once in the context: {_places(split, repaired)}."
    ]


def _lost(split: Split, rows: Sequence[int], why: str) -> list[str]:
    if not rows:
        return []
    what = "left out" if split.name == "train" else "scored all the same"
    return [f"{split.name.capitalize()}: {counted(len(rows), 'row')} {why} {what}: {_places(split, rows)}."]


def _places(split: Split, rows: Sequence[int]) -> str:
    return first_places([split.row_ids[row] for row in rows[:5]], len(rows))
