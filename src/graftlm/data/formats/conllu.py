"""CoNLL-U: the ten columns of Universal Dependencies (https://universaldependencies.org/format.html)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from graftlm.data.options import DataOptions
from graftlm.data.places import SHOWN, counted, first_places
from graftlm.data.reading import read_lines
from graftlm.data.table import Table
from graftlm.errors import DataError

_COLUMNS = {"tokens": 1, "lemmas": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}
_FEATURE = "feats."
_ABSENT = "_"


@dataclass
class _Sentences:
    """What was read so far."""

    columns: dict[str, list[object]]
    starts: list[int] = field(default_factory=list[int])
    skipped: Counter[str] = field(default_factory=Counter[str])
    ragged: list[str] = field(default_factory=list[str])
    keys: set[str] = field(default_factory=set[str])

    def begin(self, number: int) -> None:
        self.starts.append(number)
        for column in self.columns.values():
            column.append([])

    def add(self, fields: list[str]) -> None:
        pairs = (pair.partition("=") for pair in fields[5].split("|") if "=" in pair)
        features = {key: value for key, _, value in pairs}
        self.keys |= features.keys()
        for name, column in self.columns.items():
            value = (
                features.get(name.removeprefix(_FEATURE), _ABSENT)
                if name.startswith(_FEATURE)
                else fields[_COLUMNS[name]]
            )
            column[-1].append(value)  # pyright: ignore[reportAttributeAccessIssue]


class Conllu:
    """Files of Universal Dependencies: the columns are ``tokens`` (FORM), ``lemmas``, ``upos``, ``xpos``, ``feats`` and
    ``deprel``; ``data.columns.tags=feats.Number`` gives the values of one feature, ``_`` where a word has none.

    Comments, multiword ranges (``1-2``, whose words follow) and empty nodes (``1.1``) are skipped.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".conllu",)

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file, a row for each sentence. Raises `DataError` naming the lines."""
        wanted = [name for name in options.columns.values() if name.startswith(_FEATURE)]
        found = _Sentences({name: [] for name in (*_COLUMNS, *wanted)})
        within = False
        for number, line in enumerate(read_lines(path, source, options.encoding, options.max_row_bytes), 1):
            content = line.rstrip("\r\n")
            if not content.strip() or (content.startswith("#") and "\t" not in content):
                within = within and bool(content.strip())
                continue
            fields = content.split("\t")
            if len(fields) != 10 or not fields[1]:
                found.ragged.append(f"{source}:{number} ({len(fields)})")
            elif not fields[0].isdecimal():
                found.skipped["multiword range" if "-" in fields[0] else "empty node"] += 1
            else:
                if not within:
                    found.begin(number)
                    within = True
                found.add(fields)
        _refuse(found, source)
        said = [
            f"{source}: {counted(number, what)} skipped." for what, number in sorted(found.skipped.items())
        ]
        said += [
            f"{source}: no word has the feature {name.removeprefix(_FEATURE)}; features there are: "
            f"{', '.join(sorted(found.keys))}."
            for name in wanted
            if name.removeprefix(_FEATURE) not in found.keys
        ]
        return Table(source, found.columns, found.starts, typed=True, said=said)


def _refuse(found: _Sentences, source: str) -> None:
    if found.ragged:
        raise DataError(
            f"{counted(len(found.ragged), 'line')} without the 10 columns of CoNLL-U, separated by tabs; first "
            f"(with number of columns): {first_places(found.ragged[:SHOWN], len(found.ragged))}",
            where=source,
            fix="repair these lines; for files with other columns set data.format=conll",
        )
    if not found.starts:
        raise DataError("has no words", where=source, fix="give a file with one word on each line")
