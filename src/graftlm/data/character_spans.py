"""Entities given as character spans of a text -> tags of its words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from graftlm.data.places import counted, first_places
from graftlm.data.table import Table
from graftlm.data.tag_schemes import OUTSIDE
from graftlm.data.words import Offsets, as_text, word_offsets
from graftlm.errors import DataError, clip


@dataclass(frozen=True)
class CharacterSpan:
    """An entity from character ``start`` to ``end``, the end excluded."""

    start: int
    end: int
    label: str


def holds_spans(values: Sequence[object], words: Sequence[object]) -> bool:
    """Whether a column holds lists of spans rather than of tags."""
    for value in values:
        if isinstance(value, list | tuple) and value:
            return not isinstance(cast("Sequence[object]", value)[0], str)
    return any(isinstance(value, str) for value in words)  # no entity anywhere: only spans can be absent


def tags_of_spans(
    table: Table, column: str, words: Sequence[object], drop_misfits: bool, said: list[str]
) -> list[tuple[str, ...]]:
    """Return the IOB2 tags that say the same as the spans.

    Args:
        table: the rows.
        column: lists of ``{"start": 0, "end": 4, "label": "PER"}`` or ``[0, 4, "PER"]``, in characters; white space
            at either end does not count.
        words: the text, or the words, of each row.
        drop_misfits: leave out spans that no tags of words can say, instead of refusing them.
        said: a sentence about spans left out is added here.

    Raises:
        DataError: a value is no list of spans; or spans are empty, outside the text, end inside a word or overlap.
    """
    parsed = [_parsed(value) for value in table.columns[column]]
    broken = [row for row, spans in enumerate(parsed) if spans is None]
    if broken:
        raise DataError(
            f"the column {clip(column)} must hold lists of spans, but {counted(len(broken), 'row')} hold something "
            f"else; first: {first_places([table.place(row) for row in broken[:5]], len(broken))}",
            where=table.source,
            fix='write each span as {"start": 0, "end": 4, "label": "PER"}, in characters, the end excluded',
        )
    rows: list[tuple[str, ...]] = []
    misfits: list[str] = []
    for row, (spans, value) in enumerate(zip(parsed, words, strict=True)):
        tags, wrong = _tags(spans or [], word_offsets(value), len(as_text(value)))
        rows.append(tags)
        misfits += [
            f"{table.place(row)} ({span.start}-{span.end} {clip(span.label)} {why})" for span, why in wrong
        ]
    if misfits and not drop_misfits:
        raise DataError(
            f"{counted(len(misfits), 'span')} of the column {clip(column)} that tags of words cannot say: "
            f"{first_places(misfits)}",
            where=table.source,
            fix="correct them, or leave them out with data.drop_misfit_spans=true",
        )
    if misfits:
        said.append(
            f"{table.source}: {counted(len(misfits), 'span')} left out that tags of words cannot say: "
            f"{first_places(misfits)}."
        )
    return rows


def _parsed(value: object) -> list[CharacterSpan] | None:
    if not isinstance(value, list | tuple):
        return None
    spans: list[CharacterSpan] = []
    for item in cast("Sequence[object]", value):
        if isinstance(item, Mapping):
            given = cast("Mapping[str, object]", item)
            parts: Sequence[object] = [given.get(key) for key in ("start", "end", "label")]
        elif isinstance(item, list | tuple) and len(cast("Sequence[object]", item)) == 3:
            parts = cast("Sequence[object]", item)
        else:
            return None
        start, end, label = parts
        if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label.strip():
            return None
        spans.append(CharacterSpan(start, end, label.strip()))
    return spans


def _tags(
    spans: Sequence[CharacterSpan], offsets: Offsets, length: int
) -> tuple[tuple[str, ...], list[tuple[CharacterSpan, str]]]:
    """Return the tags of one row, and the spans that they do not say, each with the reason."""
    tags = [OUTSIDE] * len(offsets)
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    wrong: list[tuple[CharacterSpan, str]] = []
    # Of overlapping spans the first and longest stays.
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        first, after = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if span.start >= span.end:
            wrong.append((span, "is empty"))
        elif span.start < 0 or span.end > length:
            wrong.append((span, f"lies outside the {length} characters"))
        elif first >= after:
            wrong.append((span, "holds no word"))
        elif starts[first] < span.start or ends[after - 1] > span.end:
            wrong.append((span, "begins or ends inside a word"))
        elif any(tag != OUTSIDE for tag in tags[first:after]):
            wrong.append((span, "overlaps another"))
        else:
            tags[first:after] = [f"B-{span.label}", *[f"I-{span.label}"] * (after - first - 1)]
    return tuple(tags), wrong
