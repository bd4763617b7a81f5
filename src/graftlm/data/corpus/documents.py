"""From a path or an address to documents, one after the other, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from graftlm.data.corpus.document import Document
from graftlm.data.corpus.hub_rows import HubRows
from graftlm.data.corpus.local_files import LocalFiles
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.hub import PREFIX
from graftlm.errors import DataError
from graftlm.progress import Progress


class Source(Protocol):
    """Where documents come from."""

    def identity(self, known: object, progress: Progress) -> list[dict[str, Any]]:
        """Return what decides the documents, as JSON values; ``known`` is what was returned before, or None."""
        ...

    def require_unchanged(self) -> None:
        """Raise `DataError` where the documents are no longer those of `identity`."""
        ...

    def documents(self, progress: Progress) -> Iterator[Document]:
        """Yield all documents in their order; empty ones too."""
        ...


def open_source(options: CorpusOptions) -> Source:
    """Look where the documents are, without reading them.

    Raises:
        DataError: there is nothing to read.
        MissingResource: a permission is missing.
        ConfigurationError: the encoding is unknown, or cannot be read line by line.
    """
    return HubRows(options) if options.path.startswith(PREFIX) else LocalFiles(options)


def look_at_beginnings(options: CorpusOptions) -> None:
    """Read the first document of the first file of each kind: a wrong path, column or encoding is so told at once.

    A data set of the hub is not looked at: that takes a connection.

    Raises:
        DataError: see `read_documents`.
        MissingResource: a permission is missing.
        ConfigurationError: the encoding is unknown, or cannot be read line by line.
    """
    source = open_source(options)
    if isinstance(source, LocalFiles):
        source.look_at_beginnings()


def read_documents(options: CorpusOptions, progress: Progress) -> Iterator[Document]:
    """Yield every document of a corpus, as it is written; those without text are empty or white space.

    Args:
        options: where the text is and what a document is.
        progress: is told how far the reading is, in megabytes of the files (or rows of the hub), and what was
            decided.

    Raises:
        DataError: nothing holds text, or a file is damaged, wrongly encoded or lacks a column; with file and line.
        MissingResource: a permission or the network is missing.
        ConfigurationError: the encoding is unknown, or cannot be read line by line.
    """
    return with_text(open_source(options).documents(progress), options)


def with_text(documents: Iterator[Document], options: CorpusOptions) -> Iterator[Document]:
    """Yield the documents; raise `DataError` at their end where none held text."""
    found = False
    for document in documents:
        found = found or not (document.text == "" or document.text.isspace())
        yield document
    if not found:
        raise DataError("holds no text", where=options.path, fix="name a file, folder or column with text")
