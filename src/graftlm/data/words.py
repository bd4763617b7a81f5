"""Words of a row: as the user gave them, or as a text is divided; and where each stands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

Offsets = list[tuple[int, int]]
"""Start and end of each word in characters, the end excluded."""

_ASCII_WORD = re.compile(r"\w+|[^\w\s]")
# Scripts that put no space between words: every character is a word of its own, so that any entity can be told.
_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x3FFFF),  # Han, further extensions
)


def text_offsets(text: str) -> Offsets:
    """Divide a text: a run of letters, digits and ``_`` is a word, and so is every other character but white space.

    A character of a script without spaces (Han, Kana, Thai ...) is a word of its own. Combining marks, joiners and
    variation selectors belong to the character before them. Nothing but white space lies between the words.
    """
    if text.isascii():
        return [match.span() for match in _ASCII_WORD.finditer(text)]
    offsets: Offsets = []
    before = "space"
    for position, character in enumerate(text):
        kind = _kind(character)
        attached = kind == "mark" and before != "space"
        if attached or (kind == before == "letter"):
            offsets[-1] = (offsets[-1][0], position + 1)
        elif kind != "space":
            offsets.append((position, position + 1))
        if not attached:
            before = "other" if kind == "mark" else kind
    return offsets


@lru_cache(maxsize=65_536)
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf"):
        return "mark"
    code = ord(character)
    if any(first <= code <= last for first, last in _SPACELESS):
        return "other"
    return "letter" if character.isalnum() or character == "_" else "other"


def words_of(value: object) -> list[str]:
    """Return the words of a row: those of a list as they are, those of a text by `text_offsets`."""
    if isinstance(value, str):
        return [value[start:end] for start, end in text_offsets(value)]
    return list(cast("Sequence[str]", value))


def word_offsets(value: object) -> Offsets:
    """Return where each word of a row stands: in the text, or in the words of the list joined by single spaces."""
    if isinstance(value, str):
        return text_offsets(value)
    offsets: Offsets = []
    start = 0
    for word in cast("Sequence[str]", value):
        offsets.append((start, start + len(word)))
        start += len(word) + 1
    return offsets


def as_text(value: object) -> str:
    """Return a row as one text: words of a list, or messages and their speakers, are joined by single spaces."""
    if isinstance(value, list | tuple):
        return " ".join(map(as_text, cast("Sequence[object]", value)))
    return str(value)
