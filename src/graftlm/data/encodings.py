"""Text encodings: is the name known, can lines be cut before decoding, what do wrong bytes look like."""

from __future__ import annotations

import codecs
import re

from graftlm.errors import ConfigurationError, nearest

_COMMON = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "gb18030", "big5",
           "shift_jis", "euc-jp", "euc-kr", "koi8-r", "cp1251", "cp1250", "iso-8859-15")  # fmt: skip

_MAGIC = {
    b"\x1f\x8b": ("it looks like gzip data", "name the file with .gz at the end"),
    b"PK\x03\x04": ("it looks like a zip or Excel file", "export the sheet as CSV (UTF-8)"),
    b"PAR1": ("it looks like a Parquet file", "name the file .parquet"),
    b"\xd0\xcf\x11\xe0": ("it looks like an old Excel file", "export the sheet as CSV (UTF-8)"),
    b"\xff\xfe": ("it looks like UTF-16", "data.encoding=utf-16"),
    b"\xfe\xff": ("it looks like UTF-16", "data.encoding=utf-16"),
}


def check_encoding(name: str) -> None:
    """Raise `ConfigurationError` unless Python can decode text with the encoding ``name``."""
    try:
        b"a".decode(name)
    except UnicodeDecodeError:
        pass  # a real encoding in which one byte is no text (UTF-16)
    except (LookupError, ValueError):
        raise ConfigurationError(
            f"there is no text encoding {name!r}.{nearest(name, _COMMON)}",
            where="data.encoding",
            fix=f"use one of Python's encodings, for instance {', '.join(_COMMON[:8])}",
        ) from None


def is_ascii_compatible(name: str) -> bool:
    """Say whether line ends are the single bytes 0x0A and 0x0D, so that lines can be cut before decoding."""
    probe = "\n\r\t ,;\"'{}[]:az09AZ"
    return codecs.lookup(name).name == "utf-8-sig" or probe.encode(name) == probe.encode("ascii")


def wrong_bytes_advice(raw: bytes, first_line: bool) -> tuple[str, str]:
    """Return what a line that is not in the expected encoding looks like, and the remedy."""
    binary = magic_advice(raw) if first_line else None
    if binary is not None:
        return binary
    if _looks_chinese(raw):
        return "it looks like gb18030 (GBK, GB2312)", "data.encoding=gb18030"
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return "it may be latin-1 or a damaged file", "data.encoding=latin-1, or repair the line"
    return "it looks like cp1252 (Western European)", "data.encoding=cp1252, or save the file as UTF-8"


def magic_advice(start: bytes) -> tuple[str, str] | None:
    """Return what a file of another kind is and the remedy, by its first bytes; None for anything else."""
    return next((advice for magic, advice in _MAGIC.items() if start.startswith(magic)), None)


def _looks_chinese(raw: bytes) -> bool:
    # Chinese double bytes come in runs of even length; accented Western letters mostly stand alone.
    runs: list[bytes] = re.findall(rb"[\x80-\xff]+", raw)
    if not runs or any(len(run) % 2 for run in runs):
        return False
    try:
        characters = b"".join(runs).decode("gb18030")
    except UnicodeDecodeError:
        return False
    ideographs = sum("\u4e00" <= character <= "\u9fff" for character in characters)
    return ideographs > 2 and ideographs * 2 > len(characters)
