"""How tags mark entities: IOB1, IOB2, BIOES (BILOU, BMES); all become IOB2.

- IOB1: ``I-`` inside, ``B-`` only where an entity follows another of its type. Ramshaw and Marcus 1995.
- IOB2: the first word of every entity has ``B-``.
- BIOES: besides, the last word has ``E-``, a single one ``S-``. BILOU writes ``L-`` and ``U-``, BMES ``M-`` inside.

Prefixes alone (``B``, ``I``, ``O``) mark entities of one type without a name, which seqeval calls ``_``.

A tag out of place is read as conlleval reads it: whatever does not continue an entity begins one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

OUTSIDE = "O"
UNNAMED = "_"
"""The type of tags that are a prefix alone."""
_PREFIXES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


@dataclass(frozen=True)
class Misplaced:
    """A tag that its scheme does not allow there, by position of the row and of the word (from 0)."""

    row: int
    word: int
    tag: str
    before: str


@dataclass
class Reading:
    """Tags of all rows of a file as IOB2, and what they were.

    Args:
        rows: IOB2 tags of each row.
        scheme: its name.
        misplaced: tags out of place, already read as the beginning of an entity.
    """

    rows: list[tuple[str, ...]]
    scheme: str
    misplaced: list[Misplaced] = field(default_factory=list[Misplaced])


def divided(tag: str) -> tuple[str, str] | None:
    """Return the prefix (B, I, E or S; empty for ``O``) and the type of a tag; None where it marks no entity.

    A prefix alone, such as ``B``, has the type ``_``.
    """
    if tag == OUTSIDE:
        return "", ""
    prefix, dash, kind = tag.partition("-")
    if not dash and prefix in _PREFIXES:
        return _PREFIXES[prefix], UNNAMED
    return (_PREFIXES[prefix], kind) if dash and kind and prefix in _PREFIXES else None


def mark_entities(tags: Iterable[str]) -> bool:
    """Return whether tags look like those of entities.

    Letters alone are prefixes where ``O`` stands beside ``B`` or ``I``; else they may be names of their own, such as
    those of parts of speech.
    """
    distinct = set(tags)
    letters = distinct & _PREFIXES.keys()
    if any(divided(tag) is None for tag in distinct) or distinct <= {OUTSIDE}:
        return False
    return not letters or (
        letters == distinct - {OUTSIDE} and OUTSIDE in distinct and bool(letters & {"B", "I"})
    )


def entity_types(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct entity types of tags with prefixes, sorted."""
    return tuple(sorted({tag[2:] for tag in set(tags) if tag != OUTSIDE}))


def read_scheme(rows: Sequence[Sequence[str]]) -> Reading:
    """Recognise the scheme of a file and turn its tags into IOB2.

    Args:
        rows: tags of each row, each ``O``, or a prefix with a dash and a type, or a prefix alone.

    Raises:
        ValueError: a tag has no prefix.
    """
    prefixes = {tag.partition("-")[0] for tags in rows for tag in tags if tag != OUTSIDE}
    if prefixes <= {"B", "I"}:
        return _read_open(rows)
    scheme = "BMES" if "M" in prefixes else "BILOU" if prefixes & {"L", "U"} else "BIOES"
    return _read_closed(rows, scheme)


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return type, first word and last word + 1 of every entity of IOB2 tags, in order."""
    spans: list[tuple[str, int, int]] = []
    for word, tag in enumerate(tags):
        if tag.startswith("B-"):
            spans.append((tag[2:], word, word + 1))
        elif tag != OUTSIDE:
            kind, first, _ = spans[-1]
            spans[-1] = (kind, first, word + 1)
    return spans


def repaired(tags: Sequence[str]) -> tuple[str, ...]:
    """Return valid IOB2 tags: an ``I-`` that continues nothing begins an entity."""
    return read_scheme([tags]).rows[0]


def _parts(tag: str) -> tuple[str, str]:
    parts = divided(tag)
    if parts is None:
        raise ValueError(f"{tag!r} is neither O nor a prefix, with a dash and a type or alone")
    return parts


def _read_open(rows: Sequence[Sequence[str]]) -> Reading:
    """IOB1 and IOB2 have one reading; they differ in which tag is out of place."""
    result: list[tuple[str, ...]] = []
    loose: list[Misplaced] = []  # I- where nothing of its type goes before: misplaced in IOB2
    idle: list[Misplaced] = []  # B- where nothing of its type goes before: misplaced in IOB1
    for row, tags in enumerate(rows):
        kind_before, before = "", OUTSIDE
        read: list[str] = []
        for word, tag in enumerate(tags):
            prefix, kind = _parts(tag)
            begins = bool(prefix) and (prefix == "B" or kind != kind_before)
            if prefix == "I" and begins:
                loose.append(Misplaced(row, word, tag, before))
            elif prefix == "B" and kind != kind_before:
                idle.append(Misplaced(row, word, tag, before))
            read.append(f"{'B' if begins else 'I'}-{kind}" if prefix else OUTSIDE)
            kind_before, before = kind, tag
        result.append(tuple(read))
    if len(loose) > len(idle):
        return Reading(result, "IOB1", idle)
    return Reading(result, "IOB2", loose)


def _read_closed(rows: Sequence[Sequence[str]], scheme: str) -> Reading:
    reading = Reading([], scheme)
    for row, tags in enumerate(rows):
        unfinished, before = "", OUTSIDE  # the type of an entity that has begun and not ended
        read: list[str] = []
        for word, tag in enumerate(tags):
            prefix, kind = _parts(tag)
            continues = prefix in ("I", "E") and kind == unfinished
            if (unfinished and not continues) or (prefix in ("I", "E") and not continues):
                reading.misplaced.append(Misplaced(row, word, tag, before))
            read.append(f"{'I' if continues else 'B'}-{kind}" if prefix else OUTSIDE)
            unfinished, before = (kind if prefix in ("B", "I") else ""), tag
        if unfinished:
            reading.misplaced.append(Misplaced(row, len(tags), "the end", before))
        reading.rows.append(tuple(read))
    return reading
