"""Entities given as character spans of a text -> tags of its words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from graftlm.data.normalising import unspaced
from graftlm.data.places import counted, first_places
from graftlm.data.table import Table
from graftlm.data.tag_schemes import OUTSIDE
from graftlm.data.words import Offsets, as_text, word_offsets
from graftlm.errors import DataError, clip

_LABEL_KEYS = ("label", "type", "entity_group", "class", "labels")
# No ``value``: that is often a date or a name in another form than in the text.
_QUOTE_KEYS = ("text", "word")
_FORM = 'write each span as {"start": 0, "end": 4, "label": "PER"}, in characters, the end excluded'
# What to add to start and end, and what the spans then were; of two that fit alike the first is meant.
_SHIFTS = (
    (0, 1, "the ends look inclusive: add 1 to each end"),
    (-1, -1, "the characters look counted from 1: subtract 1 from each start and each end"),
    (-1, 0, "the characters look counted from 1, the ends inclusive: subtract 1 from each start"),
)
_MOST_SHIFTED_MISFITS = 0.05


@dataclass(frozen=True)
class CharacterSpan:
    """An entity from character ``start`` to ``end``, the end excluded; ``quoted`` where it repeats its text."""

    start: int
    end: int
    label: str
    quoted: str | None = None


@dataclass(frozen=True)
class _Row:
    """The spans of a row, its words and its text."""

    spans: list[CharacterSpan]
    offsets: Offsets
    text: str


def holds_spans(values: Sequence[object], words: Sequence[object]) -> bool:
    """Whether a column holds lists of spans rather than of tags."""
    for value in values:
        if isinstance(value, list | tuple) and value:
            return isinstance(cast("Sequence[object]", value)[0], Mapping | list | tuple)
    return any(isinstance(value, str) for value in words)  # no entity anywhere: only spans can be absent


def tags_of_spans(
    table: Table, column: str, words: Sequence[object], drop_misfits: bool, said: list[str]
) -> list[tuple[str, ...]]:
    """Return the IOB2 tags that say the same as the spans.

    Args:
        table: the rows.
        column: lists of ``{"start": 0, "end": 4, "label": "PER"}`` or ``[0, 4, "PER"]``, in characters; white space
            at either end does not count. Where a span repeats its text (``text`` or ``word``), it must
            stand there, apart from case and white space.
        words: the text, or the words, of each row.
        drop_misfits: leave out spans that do not fit, instead of refusing them.
        said: a sentence about spans left out is added here.

    Raises:
        DataError: a value is no list of spans; or spans are empty, outside the text, end inside a word, overlap or
            hold another text than they say.
    """
    rows = _rows(table, column, words)
    tags: list[tuple[str, ...]] = []
    misfits: list[str] = []
    for number, row in enumerate(rows):
        made, wrong = _tags(row)
        tags.append(made)
        misfits += [
            f"{table.place(number)} ({span.start}-{span.end} {clip(span.label)} {why})" for span, why in wrong
        ]
    if not misfits:
        return tags
    hint = _hint(rows, len(misfits))
    if not drop_misfits:
        raise DataError(
            f"{counted(len(misfits), 'span')} of the column {clip(column)} that do not fit their text: "
            f"{first_places(misfits)}",
            where=table.source,
            fix=hint or "correct them, or leave them out with data.drop_misfit_spans=true",
        )
    said.append(
        f"{table.source}: {counted(len(misfits), 'span')} left out that do not fit their text: "
        f"{first_places(misfits)}{f'; {hint}' if hint else ''}."
    )
    return tags


def _rows(table: Table, column: str, words: Sequence[object]) -> list[_Row]:
    rows: list[_Row] = []
    broken: list[str] = []
    for number, (value, text) in enumerate(zip(table.columns[column], words, strict=True)):
        spans: list[CharacterSpan] = []
        try:
            spans = _spans(value)
        except ValueError as error:
            broken.append(f"{table.place(number)} ({error})")
        rows.append(_Row(spans, word_offsets(text), as_text(text)))
    if broken:
        raise DataError(
            f"the column {clip(column)} must hold lists of spans, and does not in {counted(len(broken), 'row')}: "
            f"{first_places(broken)}",
            where=table.source,
            fix=_FORM,
        )
    return rows


def _spans(value: object) -> list[CharacterSpan]:
    """Return the spans of a row; raise ValueError with what is wrong."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"no list but {type(value).__name__}")
    return [_span(item) for item in cast("Sequence[object]", value)]


def _span(item: object) -> CharacterSpan:
    quoted: object = None
    if isinstance(item, Mapping):
        given = cast("Mapping[str, object]", item)
        start, end = given.get("start"), given.get("end")
        label, quoted = _first(given, _LABEL_KEYS), _first(given, _QUOTE_KEYS)
        if isinstance(label, list | tuple) and len(cast("Sequence[object]", label)) == 1:
            label = cast("Sequence[object]", label)[0]
    elif isinstance(item, list | tuple) and len(cast("Sequence[object]", item)) == 3:
        start, end, label = cast("Sequence[object]", item)
    else:
        raise ValueError(f"no span but {type(item).__name__}")
    if type(start) is not int or type(end) is not int:
        raise ValueError("start or end is no whole number")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("a span has no label")
    return CharacterSpan(start, end, label.strip(), quoted if isinstance(quoted, str) else None)


def _first(given: Mapping[str, object], keys: Sequence[str]) -> object:
    return next((given[key] for key in keys if given.get(key) is not None), None)


def _tags(row: _Row) -> tuple[tuple[str, ...], list[tuple[CharacterSpan, str]]]:
    """Return the tags of one row, and the spans that they do not say, each with the reason."""
    tags = [OUTSIDE] * len(row.offsets)
    starts, ends = [start for start, _ in row.offsets], [end for _, end in row.offsets]
    wrong: list[tuple[CharacterSpan, str]] = []
    # Of overlapping spans the first and longest stays.
    for span in sorted(row.spans, key=lambda span: (span.start, -span.end)):
        first, after = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if span.start >= span.end:
            wrong.append((span, "is empty"))
        elif span.start < 0 or span.end > len(row.text):
            wrong.append((span, f"lies outside the {len(row.text)} characters"))
        elif span.quoted is not None and unspaced(span.quoted) != unspaced(row.text[span.start : span.end]):
            wrong.append((span, "holds another text than it says"))
        elif first >= after:
            wrong.append((span, "holds no word"))
        elif starts[first] < span.start or ends[after - 1] > span.end:
            wrong.append((span, "begins or ends inside a word"))
        elif any(tag != OUTSIDE for tag in tags[first:after]):
            wrong.append((span, "overlaps another"))
        else:
            tags[first:after] = [f"B-{span.label}", *[f"I-{span.label}"] * (after - first - 1)]
    return tuple(tags), wrong


def _hint(rows: Sequence[_Row], misfits: int) -> str:
    """Return what to do where most spans do not fit, and nearly all would if they were counted in another way."""
    total = sum(len(row.spans) for row in rows)
    if misfits * 2 <= total:
        return ""
    left, remedy = min(
        ((_shifted_misfits(rows, start, end), remedy) for start, end, remedy in _SHIFTS),
        key=lambda found: found[0],
    )
    if left > _MOST_SHIFTED_MISFITS * total:
        return ""
    return f"{remedy}; {total - left:,} of {counted(total, 'span')} then fit"


def _shifted_misfits(rows: Sequence[_Row], start: int, end: int) -> int:
    return sum(
        len(_tags(replace(row, spans=[_moved(span, start, end) for span in row.spans]))[1]) for row in rows
    )


def _moved(span: CharacterSpan, start: int, end: int) -> CharacterSpan:
    return replace(span, start=span.start + start, end=span.end + end)
