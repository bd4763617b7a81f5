"""Minimal pairs: two sentences that differ in one thing, of which one is acceptable.

The layout is that of BLiMP (Warstadt et al., 2020, https://github.com/alexwarstadt/blimp): one file of JSON Lines for
each paradigm, each line with ``sentence_good`` and ``sentence_bad``, and ``linguistics_term``, the phenomenon that
several paradigms share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graftlm.data.formats.json_lines import JsonLines
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.reading import require_file
from graftlm.data.table import Table
from graftlm.errors import ConfigurationError, DataError

GOOD, BAD, PHENOMENON = "sentence_good", "sentence_bad", "linguistics_term"
_FILES = ("*.jsonl", "*.jsonl.gz")


@dataclass(frozen=True)
class Paradigm:
    """Pairs of one kind.

    Args:
        name: of its file, without the ending.
        phenomenon: what it belongs to; empty where the file does not say.
        good: acceptable sentences.
        bad: the other of each pair.
    """

    name: str
    phenomenon: str
    good: Sequence[str]
    bad: Sequence[str]


def read_minimal_pairs(path: Path, rows: int | None = None) -> list[Paradigm]:
    """Return the paradigms of a folder in the order of their names, or that of one file.

    Args:
        path: a folder with JSON Lines files, or one such file.
        rows: take the first so many pairs of each paradigm; None takes all.

    Raises:
        DataError: a file is missing or malformed, or a sentence is missing or empty, with file and line.
        ConfigurationError: ``rows`` is below 1.
    """
    if rows is not None and rows < 1:
        raise ConfigurationError("at least one row of each paradigm is needed", where="rows")
    files = [path]
    if path.is_dir():
        files = sorted(file for pattern in _FILES for file in path.glob(pattern))
        if not files:
            raise DataError("no .jsonl file in this folder", where=str(path), fix=_fix(path))
    paradigms = [_paradigm(file, rows) for file in files]
    names = [paradigm.name for paradigm in paradigms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"two files are called {twice[0]}", where=str(path), fix="remove one of them")
    return paradigms


def fingerprint(paradigms: Sequence[Paradigm]) -> str:
    """Return sha256 over the names and sentences, in order."""
    digest = hashlib.sha256()
    for paradigm in paradigms:
        for text in (paradigm.name, *paradigm.good, *paradigm.bad):
            digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _paradigm(file: Path, rows: int | None) -> Paradigm:
    require_file(file, str(file))
    table = JsonLines().read(file, str(file), DataOptions())
    good, bad = (_sentences(table, column)[:rows] for column in (GOOD, BAD))
    named = {str(value) for value in table.columns.get(PHENOMENON, [])}
    name = file.name.removesuffix(".gz").removesuffix(".jsonl")
    return Paradigm(name, named.pop() if len(named) == 1 else "", good, bad)


def _sentences(table: Table, column: str) -> list[str]:
    if column not in table.columns:
        raise DataError(f"the rows have no key {column}", where=table.place(0), fix=_LAYOUT)
    values = table.columns[column]
    wrong = [
        table.place(row)
        for row, value in enumerate(values)
        if not isinstance(value, str) or not value.strip()
    ]
    if wrong:
        raise DataError(
            f"{column} is no sentence in {counted(len(wrong), 'row')}: {first_places(wrong)}",
            where=table.source,
            fix=_LAYOUT,
        )
    return [str(value) for value in values]


_LAYOUT = f'write each pair as {{"{GOOD}": "...", "{BAD}": "..."}} on a line of its own'


def _fix(folder: Path) -> str:
    inner = next(
        (each for each in sorted(folder.iterdir()) if each.is_dir() and any(each.glob(_FILES[0]))), None
    )
    return f"name {inner}" if inner else "name the folder that holds one .jsonl file for each paradigm"
