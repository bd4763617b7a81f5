"""Files of a corpus: which are read, in which order, and what they hold."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from graftlm.data.corpus.document import Document
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.corpus.plain_text import documents_of_lines, look_at
from graftlm.data.corpus.rows import (
    comma_separated_rows,
    documents_of_rows,
    json_line_rows,
    parquet_rows,
    tab_separated_rows,
)
from graftlm.data.encodings import check_encoding, is_ascii_compatible, magic_advice
from graftlm.data.places import first_places
from graftlm.data.reading import lines_of, open_bytes, require_file
from graftlm.errors import ConfigurationError, DataError, GraftError, MissingResource
from graftlm.progress import Progress, Silent

Kind = Literal["plain", "json_lines", "tab_separated", "comma_separated", "parquet"]

_KINDS: dict[str, Kind] = {
    ".txt": "plain", ".text": "plain", ".jsonl": "json_lines", ".ndjson": "json_lines", ".tsv": "tab_separated",
    ".tab": "tab_separated", ".csv": "comma_separated", ".parquet": "parquet",
}  # fmt: skip
_MARKED_UP = {
    ".json": "JSON is read line by line: write one object a line into a .jsonl file",
    ".html": "take the text out of the markup first",
    ".htm": "take the text out of the markup first",
    ".xml": "take the text out of the markup first",
}
_SAID = {
    "heading": "each heading of the form `= Title =` begins a document",
    "blank_line": "each line is a sentence, and a blank line ends a document",
    "file": "the whole file is one document",
}
_ABOUT_THE_DATA = ("readme", "license", "licence", "notice", "changelog")
_CONVERT = "convert the files, for instance with: iconv -f UTF-16 -t UTF-8"
_LOOKED_AT_BYTES = 8_192
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class _File:
    """A file to read: where, what it is called in messages and in the fingerprint, and what it holds."""

    path: Path
    source: str
    name: str
    kind: Kind
    size: int
    modified: int


class LocalFiles:
    """A file or a folder as a source of documents.

    Raises:
        DataError: there is no such file, nothing in the folder can be read, or the file is no text.
        MissingResource: a file or folder may not be read.
        ConfigurationError: the encoding is unknown, or cannot be read line by line.
    """

    def __init__(self, options: CorpusOptions) -> None:
        self.options = options
        check_encoding(options.encoding)
        if not is_ascii_compatible(options.encoding):
            raise ConfigurationError(
                f"{options.encoding} cannot be read line by line, which a corpus of any size needs",
                where="corpus.encoding",
                fix=_CONVERT,
            )
        self.left_out: list[str] = []
        root = Path(options.path).expanduser()
        self.files = self._of_folder(root) if root.is_dir() else [self._of_path(root)]

    def identity(self, known: object, progress: Progress) -> list[dict[str, Any]]:
        """Return name, size, time of change and sha256 of every file, in the order of reading.

        Args:
            known: what this method returned before; the hash of a file of the same size and time is taken from it.
            progress: is told how many megabytes were looked at, where any must be.
        """
        before: dict[tuple[str, int, int], str] = {}
        if isinstance(known, list):
            for entry in cast("list[Mapping[str, Any]]", known):
                before[entry["name"], entry["bytes"], entry["modified"]] = entry["sha256"]
        new = [file for file in self.files if (file.name, file.size, file.modified) not in before]
        meter = _Meter(progress, sum(file.size for file in new))
        for file in new:
            before[file.name, file.size, file.modified] = _sha256(file)
            meter.finish(file.size)
        return [
            {
                "name": file.name,
                "bytes": file.size,
                "modified": file.modified,
                "sha256": before[file.name, file.size, file.modified],
            }
            for file in self.files
        ]

    def require_unchanged(self) -> None:
        """Raise `DataError` naming a file that changed after it was looked at first."""
        for file in self.files:
            status = file.path.stat() if file.path.exists() else None
            if status is None or (status.st_size, status.st_mtime_ns) != (file.size, file.modified):
                raise DataError("changed while it was read", where=file.source, fix="start again")

    def documents(self, progress: Progress) -> Iterator[Document]:
        """Yield the documents of every file in turn; progress counts megabytes of the files as they lie there."""
        if self.left_out:
            progress.say(f"Left aside in {self.options.path}: {first_places(self.left_out)}.")
        meter = _Meter(progress, sum(file.size for file in self.files))
        forms: set[str] = set()
        for file in self.files:
            with _our_keys():
                yield from self._documents_of(file, meter, progress, forms)
            meter.finish(file.size)

    def look_at_beginnings(self) -> None:
        """Read the first document of the first file of each kind."""
        firsts = {file.kind: file for file in reversed(self.files)}
        for file in firsts.values():
            with (
                _our_keys(),
                closing(self._documents_of(file, _Meter(Silent(), 0), Silent(), set())) as found,
            ):
                next(found, None)

    def _documents_of(
        self, file: _File, meter: _Meter, progress: Progress, forms: set[str]
    ) -> Generator[Document]:
        options = self.options
        if file.kind == "parquet":
            yield from documents_of_rows(parquet_rows(file.path, file.source, options), options)
            return
        if file.kind == "comma_separated":
            yield from documents_of_rows(comma_separated_rows(file.path, file.source, options), options)
            return
        with open_bytes(file.path, file.source) as stream:
            lines = meter.watch(
                lines_of(stream, file.source, options.encoding, options.max_row_bytes), stream
            )
            if file.kind != "plain":
                rows = json_line_rows if file.kind == "json_lines" else tab_separated_rows
                yield from documents_of_rows(rows(lines, file.source, options), options)
                return
            form = options.document
            if form == "auto":
                form, lines = look_at(lines)
                if form not in forms:
                    forms.add(form)
                    progress.say(
                        f"{file.source}: {_SAID[form]}; corpus.document={form} says so for all files."
                    )
            yield from documents_of_lines(lines, file.source, form, progress.say)

    def _of_path(self, path: Path) -> _File:
        require_file(path, self.options.path)
        kind, why_not = self._kind(path, self.options.path)
        if kind is None:
            raise DataError(f"is no text: {why_not}", where=self.options.path, fix="give a file of text")
        return self._file(path, self.options.path, path.name, kind)

    def _of_folder(self, root: Path) -> list[_File]:
        found: list[_File] = []
        for path in _files_below(root):
            name = path.relative_to(root).as_posix()
            source = os.path.join(self.options.path, name)  # noqa: PTH118 - as the user wrote it
            if path.name.lower().startswith(_ABOUT_THE_DATA):
                self.left_out.append(f"{name} (about the data)")
                continue
            kind, why_not = self._kind(path, source)
            if kind is None:
                self.left_out.append(f"{name} ({why_not})")
            else:
                found.append(self._file(path, source, name, kind))
        if not found:
            raise DataError(
                f"the folder holds no text{f'; left aside: {first_places(self.left_out)}' if self.left_out else ''}",
                where=self.options.path,
                fix=f"put files into it, such as {', '.join(_KINDS)}, or name another folder",
            )
        return found

    def _file(self, path: Path, source: str, name: str, kind: Kind) -> _File:
        status = path.stat()
        # The fingerprint is written as JSON, which cannot hold bytes that are no UTF-8.
        written = name.encode("utf-8", "backslashreplace").decode()
        return _File(path, source, written, kind, status.st_size, status.st_mtime_ns)

    def _kind(self, path: Path, source: str) -> tuple[Kind | None, str]:
        """Return what a file holds, or why it is not read."""
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        if suffix in _MARKED_UP:
            return None, _MARKED_UP[suffix]
        if suffix in _KINDS:
            packed = suffix == ".parquet" and path.name.lower().endswith(".gz")
            return (None, "Parquet is not read from .gz: unpack it") if packed else (_KINDS[suffix], "")
        try:
            with open_bytes(path, source) as file:
                start = file.read(_LOOKED_AT_BYTES)
        except (EOFError, OSError, zlib.error):
            return None, "damaged gzip data"
        if advice := magic_advice(start):
            return None, advice[0]
        try:
            codecs.getincrementaldecoder(self.options.encoding)().decode(start)
        except UnicodeDecodeError:
            return None, f"not {self.options.encoding.upper()}"
        return (None, "binary") if b"\0" in start else ("plain", "")


class _Meter:
    """Tells progress how much of all files was read, not more than once each megabyte."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.total = max(1, -(-total // _MEGABYTE))
        self.before = self.told = 0

    def watch(self, lines: Iterator[str], file: BinaryIO) -> Iterator[str]:
        """Hand lines on, and tell how much of the file they took."""
        raw = cast("BinaryIO", file.fileobj) if isinstance(file, gzip.GzipFile) else file
        untold = 0
        for line in lines:
            yield line
            untold += len(line)
            if untold >= _MEGABYTE:
                untold = 0
                self._tell(self.before + raw.tell())

    def finish(self, size: int) -> None:
        """Tell that a file was read."""
        self.before += size
        self._tell(self.before)

    def _tell(self, position: int) -> None:
        megabytes = min(self.total, -(-position // _MEGABYTE))
        if megabytes > self.told:
            self.told = megabytes
            self.progress.advance(megabytes, self.total)


def _files_below(root: Path) -> list[Path]:
    """Return regular files at any depth, hidden ones and those of hidden folders left out, sorted by their path."""
    found: list[Path] = []

    def refuse(problem: OSError) -> None:
        raise MissingResource(
            f"the folder cannot be listed: {problem.strerror}",
            where=str(problem.filename),
            fix="check permissions",
        )

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder) / name for name in names if not name.startswith(".")]
    return sorted(
        (path for path in found if path.is_file()), key=lambda path: path.relative_to(root).as_posix()
    )


def _sha256(file: _File) -> str:
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise MissingResource(f"cannot be read: {problem.strerror}", where=file.source) from None


@contextmanager
def _our_keys() -> Generator[None]:
    """Readers of files speak of ``data.encoding`` and ``data.max_row_bytes``; here they are ``corpus...``."""
    try:
        yield
    except GraftError as problem:
        # Tables may be UTF-16; a corpus, read line by line, may not.
        fix = re.sub(r"data\.encoding=utf-16(-\w+)?", _CONVERT, problem.fix)
        fix = fix.replace("data.encoding", "corpus.encoding").replace(
            "data.max_row_bytes", "corpus.max_row_bytes"
        )
        raise type(problem)(problem.what, where=problem.where, fix=fix) from None
