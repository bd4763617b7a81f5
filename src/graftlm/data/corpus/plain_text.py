"""Lines of plain text -> documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from graftlm.data.corpus.document import LONGEST_DOCUMENT, Document, bounded
from graftlm.data.corpus.options import DocumentForm
from graftlm.data.corpus.sentences import split_sentences

_TITLE = re.compile(r"\s*= [^=].*[^=] =\s*")
_LOOKED_AT = 1_000_000
"""Characters of a file that decide what a document is in it."""
_ENDED_SHARE, _SENTENCES_IN_LINE = 0.8, 1.2

_SENTENCE_END = re.compile(r"""[.!?…。！？][\s"'”’»)\]」』]*+\Z""")
_END_CHARACTERS = 8


def documents_of_lines(
    lines: Iterator[str], source: str, form: DocumentForm, say: Callable[[str], None]
) -> Iterator[Document]:
    """Divide a file into documents; line ends become LF, blank lines at both ends of a document are left out.

    Args:
        lines: with their line ends.
        source: the file, for places.
        form: what a document is.
        say: is told when a file is too long for one document.
    """
    count = 0
    for number, block in _blocks((line.rstrip("\r\n") for line in lines), form):
        place = source if form == "file" and not count else f"{source}:{number}"
        for document in bounded(Document("\n".join(block), place)):
            count += 1
            yield document
    if not count:
        yield Document("", source)
    if form == "file" and count > 1:
        say(f"{source} is longer than {LONGEST_DOCUMENT:,} characters and becomes {count} documents.")


def look_at(lines: Iterator[str]) -> tuple[DocumentForm, Iterator[str]]:
    """Return what a document is in a file, and all its lines."""
    head: list[str] = []
    size = 0
    for line in lines:
        head.append(line)
        size += len(line)
        if size > _LOOKED_AT:
            break
    return form_of(head), chain(head, lines)


def form_of(lines: Sequence[str]) -> DocumentForm:
    """Return what a document is in a file that begins with these lines: ``heading``, ``blank_line`` or ``file``.

    Blank lines separate documents where a block between two of them has several lines, and nearly every line is one
    whole sentence (the form that BERT was pretrained from); paragraphs, verses and broken lines look otherwise.
    """
    blocks = list(_blocks(iter(lines), "blank_line"))
    if any(len(block) == 1 and _TITLE.fullmatch(block[0]) for _, block in blocks):
        return "heading"
    filled = [line for _, block in blocks for line in block]
    if len(blocks) < 2 or len(filled) < 2 * len(blocks):
        return "file"
    ended = sum(_SENTENCE_END.search(line[-_END_CHARACTERS:]) is not None for line in filled)
    sentences = sum(len(split_sentences(line)) for line in filled)
    whole = ended >= _ENDED_SHARE * len(filled) and sentences <= _SENTENCES_IN_LINE * len(filled)
    return "blank_line" if whole else "file"


def _blocks(lines: Iterator[str], form: DocumentForm) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of each document, the first and the last not blank, and the number of the first."""
    block: list[str] = []
    first = size = 0
    blank_before = True
    for number, line in enumerate(lines, 1):
        blank = not line or line.isspace()
        begins = (
            form == "line"
            or (form == "blank_line" and blank)
            or (form == "heading" and blank_before and _TITLE.fullmatch(line) is not None)
            or size + len(line) > LONGEST_DOCUMENT
        )
        if begins and block:
            yield first, _without_blank_end(block)
            block, size = [], 0
        if block or not blank:
            first = first if block else number
            block.append(line)
            size += len(line) + 1
        blank_before = blank
    if block:
        yield first, _without_blank_end(block)


def _without_blank_end(lines: list[str]) -> list[str]:
    while not lines[-1].strip():
        lines.pop()
    return lines
