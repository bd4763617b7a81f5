"""Documents -> sentences, and which of them measure the model instead of training it.

The rule must work while documents stream by, whatever their lengths, and must not depend on their order: a document
is held out when a hash of seed and content, as a number between 0 and 1, is below the share. Where documents are
novels that would be coarse (one of 47 is 2 %), so documents beyond 64 KiB are judged in stretches of about 16 KiB that
end where a sentence does; what stays between two stretches held out is a document of its own, so that no context
reaches across the gap. Copies that differ in case and white space alone fall to the same side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import NamedTuple

from graftlm.data.corpus.sentences import split_sentences
from graftlm.data.normalising import text_keys
from graftlm.errors import DataError

LONGEST_WHOLE_BYTES = 65_536
STRETCH_BYTES = 16_384
LOOKED_AHEAD_BYTES = 8_388_608
"""Where no hash in this much text falls below the share, the least of them is taken: small corpora need it."""


class Piece(NamedTuple):
    """What becomes one document of train or of the held-out part.

    Args:
        sentences: joined, they are the text.
        size: its UTF-8 bytes.
        held_out: it measures the model.
    """

    sentences: list[str]
    size: int
    held_out: bool


class _Unit(NamedTuple):
    """What is held out whole or not at all; ``key`` is a number between 0 and 1."""

    sentences: list[str]
    size: int
    key: float


def pieces_of(
    documents: Iterator[tuple[int, str]], share: float, seed: int, first: int = 0
) -> Iterator[tuple[int, list[Piece]]]:
    """Yield the number of each document and its pieces, in order.

    Args:
        documents: numbers, ascending, and texts.
        share: of the text to hold out; with more than 0, at least one unit of the first 8 MiB is held out.
        seed: another one holds out other documents.
        first: documents with a smaller number are looked at where the rule needs it, and not yielded.

    Raises:
        DataError: something must be held out, and there is a single unit.
    """
    head: list[tuple[int, list[_Unit]]] = []
    size = 0
    for number, text in documents if share else ():
        head.append((number, _units(text, seed)))
        size += sum(unit.size for unit in head[-1][1])
        if size >= LOOKED_AHEAD_BYTES:
            break
    keys = [unit.key for _, units in head for unit in units]
    if len(set(keys)) == 1 and (len(keys) == 1 or size < LOOKED_AHEAD_BYTES):
        what = "one document" if len(keys) == 1 else f"one document, {len(keys):,} times the same,"
        raise DataError(
            f"all the text is {what} of {size:,} bytes, so none can be held out",
            where="corpus.held_out_share",
            fix="give more text, say what a document is (corpus.document=line), or hold nothing out "
            "(corpus.held_out_share=0)",
        )
    limit = share if not keys or min(keys) < share else math.nextafter(min(keys), 1.0)
    yield from ((number, _joined(units, limit)) for number, units in head if number >= first)
    for number, text in documents:
        if number >= first and share:
            yield number, _joined(_units(text, seed), share)
        elif number >= first:
            yield number, [Piece(split_sentences(text), utf8_bytes(text), False)]


def trained_on(texts: Iterable[str], share: float, seed: int) -> Iterator[str]:
    """Yield what of the texts of documents is not held out: for a tokenizer, which must not know the rest either.

    Args:
        texts: of the documents, in order.
        share: see `pieces_of`.
        seed: see `pieces_of`.

    Raises:
        DataError: see `pieces_of`.
    """
    documents = ((number, text) for number, text in enumerate(texts) if text and not text.isspace())
    for _, pieces in pieces_of(documents, share, seed):
        yield from ("".join(piece.sentences) for piece in pieces if not piece.held_out)


def _units(text: str, seed: int) -> list[_Unit]:
    left = utf8_bytes(text)
    sentences = split_sentences(text)
    if left <= LONGEST_WHOLE_BYTES:
        return [_Unit(sentences, left, _key(text, seed))]
    units: list[_Unit] = []
    stretch: list[str] = []
    size = 0
    for sentence in sentences:
        stretch.append(sentence)
        size += utf8_bytes(sentence)
        # The last stretch takes what would be too little for one more.
        if STRETCH_BYTES <= size <= left - STRETCH_BYTES // 2 or size == left:
            units.append(_Unit(stretch, size, _key("".join(stretch), seed)))
            left, stretch, size = left - size, [], 0
    return units


def _key(text: str, seed: int) -> float:
    (digest,) = text_keys([[text]], seed)
    return int.from_bytes(digest[:8], "big") / 2**64


def _joined(units: list[_Unit], limit: float) -> list[Piece]:
    """Return units held out one by one, and the others that follow each other as one piece."""
    pieces: list[Piece] = []
    for held_out, run in groupby(units, lambda unit: unit.key < limit):
        if held_out:
            pieces += (Piece(unit.sentences, unit.size, True) for unit in run)
        else:
            members = list(run)
            sentences = list(chain.from_iterable(unit.sentences for unit in members))
            pieces.append(Piece(sentences, sum(unit.size for unit in members), False))
    return pieces


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
