"""A data set of the hub as a source of documents, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from graftlm.data.corpus.document import Document
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.corpus.rows import documents_of_rows, rows_of_records, wanted_columns
from graftlm.data.hub import commit_of, stream
from graftlm.progress import Progress

_TOLD_EACH = 1_000


class HubRows:
    """One split of a data set of the hub.

    Raises:
        DataError: the address names no data set.
    """

    def __init__(self, options: CorpusOptions) -> None:
        self.options = options
        self.commit = commit_of(options.path)

    def identity(self, known: object, progress: Progress) -> list[dict[str, Any]]:
        """Return address, split and commit.

        Args:
            known: what this method returned before; its commit counts where the hub cannot be asked.
            progress: is told so.
        """
        wanted = {"address": self.options.path, "split": self.options.split}
        before = cast("list[Mapping[str, Any]]", known if isinstance(known, list) and known else [{}])[0]
        if self.commit is None and all(before.get(key) == value for key, value in wanted.items()):
            self.commit = before["commit"]
            progress.warn(
                f"The hub does not say what {self.options.path} is now; commit {self.commit} counts."
            )
        return [{**wanted, "commit": self.commit}]

    def require_unchanged(self) -> None:
        """Do nothing: a commit never changes."""

    def documents(self, progress: Progress) -> Iterator[Document]:
        """Yield the documents of the split; progress counts rows."""
        streamed = stream(self.options.path, self.options.split, self.commit)
        for decision in streamed.decisions:
            progress.say(decision)

        def records() -> Iterator[tuple[str, Mapping[str, object]]]:
            for number, row in enumerate(streamed.rows(wanted_columns(self.options)), 1):
                yield f"{self.options.path} ({self.options.split}), row {number}", row
                if number % _TOLD_EACH == 0:
                    progress.advance(number, max(number, streamed.rows_total or 0))

        yield from documents_of_rows(rows_of_records(records(), self.options), self.options)
