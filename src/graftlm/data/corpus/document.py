"""One document of a corpus, and how long one may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LONGEST_DOCUMENT = 4_000_000
"""Characters; longer ones become several documents, so that memory does not grow with them."""


class Document(NamedTuple):
    """A text whose parts belong together.

    Args:
        text: may be empty or white space.
        place: where it begins: a file, ``file:line``, or ``file, row N``.
    """

    text: str
    place: str


def bounded(document: Document) -> Iterator[Document]:
    """Yield the document in pieces of at most `LONGEST_DOCUMENT`, cut at line ends, else at spaces, where there are."""
    text, start = document.text, 0
    while len(text) - start > LONGEST_DOCUMENT:
        earliest, limit = start + LONGEST_DOCUMENT // 2, start + LONGEST_DOCUMENT
        cuts = (text.rfind(space, earliest, limit) for space in "\n ")
        end = next((cut for cut in cuts if cut > 0), limit)
        yield Document(text[start:end], document.place)
        start = end
    yield Document(text[start:], document.place) if start else document
