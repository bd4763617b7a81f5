"""Bytes of a text file -> decoded lines, strictly: nothing is replaced, guessed or dropped.

A line ends at LF, CRLF or (in a file without LF) CR. ``str.splitlines`` is never used: NEL, VT and U+2028
inside a text are text.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from graftlm.data.encodings import check_encoding, is_ascii_compatible, magic_advice, wrong_bytes_advice
from graftlm.data.places import counted
from graftlm.errors import DataError, MissingResource, nearest

_UTF8_MARK = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 16


def read_lines(path: Path, source: str, encoding: str, max_row_bytes: int) -> Iterator[str]:
    """Yield the lines of a text file with their line ends, decoded; ``.gz`` is unpacked on the way.

    Args:
        path: the file.
        source: its name as the user wrote it, for messages.
        encoding: a Python text encoding; a byte-order mark is dropped.
        max_row_bytes: a longer line is refused before it is read whole.

    Raises:
        DataError: the file is missing, not text, wrongly encoded, holds NUL bytes or too long a line.
        MissingResource: the file may not be read.
        ConfigurationError: there is no such encoding.
    """
    check_encoding(encoding)
    with open_bytes(path, source) as file:
        yield from lines_of(file, source, encoding, max_row_bytes)


def lines_of(file: BinaryIO, source: str, encoding: str, max_row_bytes: int) -> Iterator[str]:
    """Yield the lines of a file that `open_bytes` opened, as `read_lines` does, with the same errors."""
    try:
        transparent = is_ascii_compatible(encoding)
        stream = file if transparent else _whole_file_as_utf8(file, source, encoding)
        codec = encoding if transparent else "utf-8"
        yield from _decoded(_raw_lines(stream, source, max_row_bytes), source, codec)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(
            f"the gzip data is damaged or cut short ({problem})",
            where=source,
            fix="copy or download the file again",
        ) from None
    except OSError as problem:
        raise MissingResource(f"cannot be read: {problem.strerror or problem}", where=source) from None


@contextmanager
def open_bytes(path: Path, source: str) -> Generator[BinaryIO]:
    """Open a regular file for reading, unpacking ``.gz``; errors say what is wrong with the path."""
    require_file(path, source)
    try:
        file = path.open("rb")
    except OSError as problem:
        raise MissingResource(
            f"cannot be opened: {problem.strerror}", where=source, fix="check the permissions of the file"
        ) from None
    with file:
        if path.suffix.lower() == ".gz":
            # GzipFile quacks like a binary file; it only lacks the class.
            with closing(gzip.GzipFile(fileobj=file)) as unpacked:
                yield unpacked  # pyright: ignore[reportReturnType]
        else:
            yield file


def require_file(path: Path, source: str) -> None:
    """Raise `DataError` with the nearest name in the same folder unless ``path`` is a regular file."""
    try:
        if path.is_file():
            return
        if path.exists():
            raise DataError(
                "is a folder or a device, not a file", where=source, fix="give the path of one file"
            )
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except (PermissionError, ValueError) as problem:
        raise MissingResource(f"cannot be opened: {problem}", where=source, fix="check the path") from None
    missing = "there is no such file" if path.parent.is_dir() else f"there is no folder {path.parent}"
    raise DataError(f"{missing}.{nearest(path.name, names)}", where=source, fix="check the path")


def _decoded(raw_lines: Iterator[bytes], source: str, encoding: str) -> Iterator[str]:
    for number, raw in enumerate(raw_lines, 1):
        if b"\0" in raw:
            raise _nul_error(raw, number, source, raw_lines)
        try:
            line = raw.decode(encoding)
        except UnicodeDecodeError as problem:
            raise _decoding_error(raw, problem.start, number, source, encoding, raw_lines) from None
        yield line


def _raw_lines(file: BinaryIO, source: str, max_row_bytes: int) -> Iterator[bytes]:
    first = file.readline(max_row_bytes + len(_UTF8_MARK) + 2).removeprefix(_UTF8_MARK)
    if b"\r" in first and b"\n" not in first:
        yield from _lines_ended_by_carriage_return(file, first, source, max_row_bytes)
        return
    number, line = 1, first
    while line:
        _refuse_long(line, number, source, max_row_bytes)
        yield line
        number, line = number + 1, file.readline(max_row_bytes + 2)


def _lines_ended_by_carriage_return(
    file: BinaryIO, start: bytes, source: str, max_row_bytes: int
) -> Iterator[bytes]:
    number, rest = 0, start
    while True:
        *whole, rest = rest.split(b"\r")
        for line in whole:
            number += 1
            _refuse_long(line, number, source, max_row_bytes)
            if b"\n" in line:
                raise DataError(
                    "mixes line ends: earlier lines end with CR alone, this one holds an LF",
                    where=f"{source}:{number}",
                    fix="convert the file to one kind of line end (LF)",
                )
            yield line + b"\r"
        _refuse_long(rest, number + 1, source, max_row_bytes)
        chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            break
        rest += chunk
    if rest:
        yield rest


def _refuse_long(line: bytes, number: int, source: str, max_row_bytes: int) -> None:
    # The quick test comes first: this runs once per line.
    if len(line) > max_row_bytes and len(line.rstrip(b"\r\n")) > max_row_bytes:
        raise DataError(
            f"the line is longer than {max_row_bytes:,} bytes; such a line is nearly always a broken file",
            where=f"{source}:{number}",
            fix="repair the line, or raise data.max_row_bytes if it is meant",
        )


def _whole_file_as_utf8(file: BinaryIO, source: str, encoding: str) -> BinaryIO:
    # In UTF-16, EBCDIC and the like a byte 0x0A need not be a line end, so lines are found after decoding.
    content = file.read()
    try:
        text = content.decode(encoding)
    except UnicodeError as problem:
        known = isinstance(problem, UnicodeDecodeError)
        why = f"{problem.reason} at byte {problem.start + 1}" if known else str(problem)
        raise DataError(
            f"is not {encoding.upper()}: {why}",
            where=source,
            fix="leave data.encoding out for UTF-8, or name the encoding the file was saved in",
        ) from None
    return io.BytesIO(text.removeprefix("\ufeff").encode("utf-8", "surrogatepass"))


def _nul_error(raw: bytes, number: int, source: str, rest: Iterator[bytes]) -> DataError:
    binary = magic_advice(raw) if number == 1 else None
    if binary is not None:
        return DataError(f"is not text: {binary[0]}", where=f"{source}:1", fix=binary[1])
    # ASCII text in UTF-16 without a byte-order mark is valid UTF-8 in which every other byte is NUL.
    if number == 1 and raw.count(b"\0") >= len(raw) // 3:
        byte_order = "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
        return DataError(
            "every other byte is NUL (0x00): this looks like UTF-16 without a byte-order mark",
            where=f"{source}:{number}",
            fix=f"data.encoding={byte_order}",
        )
    lines = counted(1 + _count(rest, lambda line: b"\0" in line), "such line")
    return DataError(
        f"NUL byte (0x00) at byte {raw.index(0) + 1} of the line; text holds none ({lines})",
        where=f"{source}:{number}",
        fix="remove the NUL bytes, or export the file again",
    )


def _decoding_error(
    raw: bytes, position: int, number: int, source: str, encoding: str, rest: Iterator[bytes]
) -> DataError:
    def wrong(line: bytes) -> bool:
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            return True
        return False

    looks_like, remedy = wrong_bytes_advice(raw, number == 1)
    lines = 1 + _count(rest, wrong)
    return DataError(
        f"byte 0x{raw[position]:02X} (byte {position + 1} of the line) is not {encoding.upper()}; "
        f"{looks_like} ({counted(lines, 'such line')})",
        where=f"{source}:{number}",
        fix=remedy,
    )


def _count(rest: Iterable[bytes], wrong: Callable[[bytes], bool]) -> int:
    # The rest of a broken file may itself be unreadable; the count then covers what could be read.
    total = 0
    try:
        for line in rest:
            total += wrong(line)
    except (DataError, EOFError, OSError, zlib.error):
        pass
    return total
