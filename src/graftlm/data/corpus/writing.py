"""One part of a corpus while it is written: files that only grow, and can go on from a recorded size."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corpus.shards import INDICES, Sizes, shard_path, shards_for
from graftlm.errors import DataError, MissingResource
from graftlm.rundir import sync_folder

_INDEX_BYTES = 8


class PartWriter:
    """Appends documents to the files of a part.

    Args:
        folder: of the part; created where it is missing.
        token_type: uint16 or uint32, little-endian.
        tokens_in_shard: of a full shard.
        sizes: what is kept of an earlier attempt; everything behind it is cut off.

    Raises:
        DataError: less is there than ``sizes`` says.
        MissingResource: a file cannot be written.
    """

    def __init__(
        self, folder: Path, token_type: np.dtype[np.unsignedinteger], tokens_in_shard: int, sizes: Sizes
    ) -> None:
        self.folder = folder
        self.token_type = token_type
        self.tokens_in_shard = tokens_in_shard
        self.sizes = sizes
        self._shard: BinaryIO | None = None
        with _writing(folder), ExitStack() as opened:
            folder.mkdir(parents=True, exist_ok=True)
            self._indices = {name: opened.enter_context(self._open_index(name)) for name in INDICES}
            self._keep_shards()
            sync_folder(folder)
            opened.pop_all()

    def _keep_shards(self) -> None:
        """Open the last shard where it goes on; drop those behind it."""
        kept = [
            shard_path(self.folder, number)
            for number in range(shards_for(self.sizes.tokens, self.tokens_in_shard))
        ]
        for path in set(self.folder.glob("tokens-*.bin")) - set(kept):
            path.unlink()
        tokens = self.sizes.tokens
        for path in kept:
            if self._shard is not None:
                self._shard.close()
            self._shard = _opened(path, min(tokens, self.tokens_in_shard) * self.token_type.itemsize)
            tokens -= self.tokens_in_shard

    def _open_index(self, name: str) -> BinaryIO:
        path, known = self.folder / f"{name}.bin", self.sizes
        entries = known.sentences if name == "sentence_starts" else known.documents
        if name == "document_bytes":
            return _opened(path, _INDEX_BYTES * entries)
        # Beside the end of each, where the first one starts.
        file = _opened(path, _INDEX_BYTES * (entries + 1) if entries else 0)
        if not entries:
            file.write(np.zeros(1, "<i8").tobytes())
        return file

    def add(
        self,
        tokens: NDArray[np.int64],
        sentence_lengths: NDArray[np.int64],
        document_sentences: NDArray[np.int64],
        document_bytes: NDArray[np.int64],
    ) -> None:
        """Append documents.

        Args:
            tokens: ids of all documents, [tokens].
            sentence_lengths: tokens of each sentence, [sentences].
            document_sentences: sentences of each document, at least one, [documents].
            document_bytes: UTF-8 bytes of each document, [documents].
        """
        before = self.sizes
        sentence_ends, document_ends = np.cumsum(sentence_lengths), np.cumsum(document_sentences)
        entries = {
            "document_starts": before.tokens + sentence_ends[document_ends - 1],
            "sentence_starts": before.tokens + sentence_ends,
            "document_sentences": before.sentences + document_ends,
            "document_bytes": document_bytes,
        }
        with _writing(self.folder):
            for name, values in entries.items():
                self._indices[name].write(values.astype("<i8").tobytes())
            self._append(tokens.astype(self.token_type))
        self.sizes = Sizes(
            before.documents + len(document_bytes),
            before.sentences + len(sentence_lengths),
            before.tokens + len(tokens),
            before.bytes + int(document_bytes.sum()),
        )

    def _append(self, tokens: NDArray[np.unsignedinteger]) -> None:
        done = 0
        while done < len(tokens):
            number, offset = divmod(self.sizes.tokens + done, self.tokens_in_shard)
            if self._shard is None or offset == 0:
                if self._shard is not None:
                    _sync(self._shard)
                    self._shard.close()
                self._shard = _opened(shard_path(self.folder, number), 0)
            taken = tokens[done : done + self.tokens_in_shard - offset]
            self._shard.write(taken.tobytes())
            done += len(taken)

    def _files(self) -> list[BinaryIO]:
        return [*self._indices.values(), *([] if self._shard is None else [self._shard])]

    def commit(self) -> None:
        """Let everything written so far survive a power cut."""
        with _writing(self.folder):
            for file in self._files():
                _sync(file)
            sync_folder(self.folder)

    def close(self) -> None:
        """Close the files; what was not committed may be lost."""
        for file in self._files():
            # A full disk was an error when it was written to, and would be one here again.
            with suppress(OSError):
                file.close()


def flattened(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the integers of all rows one behind the other, [integers], and how many each row has, [rows]."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum())), lengths


def _opened(path: Path, kept: int) -> BinaryIO:
    """Open a file to append to, cut to ``kept`` bytes."""
    file = path.open("ab")
    size = path.stat().st_size
    if size < kept:
        file.close()
        raise DataError(
            f"has {size:,} bytes where {kept:,} were written",
            where=str(path),
            fix="delete the folder of this corpus; it is then built again from its text",
        )
    file.truncate(kept)
    return file


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as problem:
        raise MissingResource(
            f"cannot be written: {problem.strerror}",
            where=str(problem.filename or folder),
            fix="free disk space or check permissions",
        ) from None
