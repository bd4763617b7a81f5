from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graftlm.data.corpus.building import build_corpus
from graftlm.data.corpus.document import Document
from graftlm.data.corpus.documents import read_documents
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.corpus.shards import Corpus, TokenCorpus
from graftlm.progress import Silent

VOCABULARY = 0x11_0000
"""Ids are code points, so that a text can be read back from its tokens."""


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.moves: list[tuple[int, int, dict[str, Any]]] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, done: int, total: int, **figures: Any) -> None:
        self.moves.append((done, total, figures))


def code_points(sentences: Sequence[str], begins: Sequence[bool] = ()) -> list[list[int]]:
    return [list(map(ord, sentence)) for sentence in sentences]


def texts(part: TokenCorpus) -> list[str]:
    """The text of every document."""
    starts = part.document_starts.tolist()
    return ["".join(map(chr, part.window(*span))) for span in pairwise(starts)]


@pytest.fixture
def read():
    """Read documents by options; the second value is what was said."""

    def read(path: object, **options: Any) -> tuple[list[Document], list[str]]:
        listener = Listener()
        documents = list(read_documents(CorpusOptions(path=str(path), **options), listener))
        return documents, listener.said

    return read


@pytest.fixture
def build(tmp_path: Path):
    """Build a corpus of code points in `tmp_path / "corpus"`."""

    def build(path: object, tokenise: Any = code_points, seed: int = 0, **more: Any) -> Corpus:
        folder = more.pop("folder", tmp_path / "corpus")
        listener = more.pop("listener", Silent())
        name = more.pop("tokenizer", "code points")
        size = more.pop("vocabulary_size", VOCABULARY)
        options = CorpusOptions(path=str(path), **more)
        return build_corpus(options, tokenise, size, name, seed, folder, listener)

    return build
