"""From what the user gave (a path, a folder, a hub id, an object in memory) to tables, one per split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from graftlm.catalog import Catalog
from graftlm.data.benchmark_reading import is_benchmark, read_benchmark
from graftlm.data.formats._format import Format
from graftlm.data.hub import PREFIX, read_hub
from graftlm.data.memory import tables_in_memory
from graftlm.data.options import DataOptions
from graftlm.data.reading import require_file
from graftlm.data.split_names import split_of
from graftlm.data.table import Table, Tables
from graftlm.errors import DataError, MissingResource


def read_tables(data: object, options: DataOptions) -> Tables:
    """Read all splits, with ``options.validation`` and ``options.test`` added where they are given.

    Args:
        data: a path, an object in memory (see `tables_in_memory`), None for ``options.path``, or tables
            that this function gave before.
        options: the ``data`` section of the recipe.

    Raises:
        DataError: something is missing, malformed or ambiguous; the message names the place and the remedy.
        MissingResource: a permission or the network is missing.
    """
    if isinstance(data, Tables):
        return data
    if data is None:
        data = options.path
    if isinstance(data, str | os.PathLike):
        tables = _read_path(os.fspath(data), options)
    else:
        tables = tables_in_memory(data)
    extra = {"validation": options.validation, "test": options.test}
    for split, source in extra.items():
        if source is not None:
            tables = _with_split(tables, split, source, options)
    return tables


def read_file(source: str, options: DataOptions) -> Table:
    """Read one local file; ``options.format`` or its name decides the format."""
    path = Path(source).expanduser()
    reader = format_of(path.name, options.format)
    if reader is None:
        # Say that the file is missing before complaining about its suffix.
        require_file(path, source)
        known = ", ".join(_known_suffixes())
        raise DataError(
            f"no known format has the suffix {path.suffix!r}; known (text also .gz): {known}",
            where=source,
            fix="rename the file by what it holds, for instance to .csv or .jsonl, or say it: data.format=csv "
            f"(known: {', '.join(Catalog('data.formats').names())})",
        )
    return reader.read(path, source, options)


def format_of(file_name: str, chosen: str | None = None) -> Format | None:
    """Return the chosen reader, else that for a file name, ``.gz`` aside; None for an unknown suffix."""
    if chosen is not None:
        return Catalog("data.formats").get(chosen)()
    suffix = Path(file_name.lower().removesuffix(".gz")).suffix
    return next((reader for reader in _formats() if suffix in reader.suffixes), None)


def _formats() -> list[Format]:
    catalog = Catalog("data.formats")
    return [catalog.get(name)() for name in catalog.names()]


def _known_suffixes() -> list[str]:
    return sorted({suffix for reader in _formats() for suffix in reader.suffixes})


def _read_path(source: str | bytes, options: DataOptions) -> Tables:
    source = os.fsdecode(source)
    if not source:
        raise DataError(
            "no data is given",
            where="data.path",
            fix="name a file, a folder, hub:org/name or a benchmark such as glue:rte",
        )
    if source.startswith(PREFIX):
        return read_hub(source)
    if is_benchmark(source):
        return read_benchmark(source, options, read_file)
    path = Path(source).expanduser()
    try:
        is_folder = path.is_dir()
    except OSError as error:  # for instance a name that is too long
        raise DataError(f"is no path: {error.strerror}", where=source[:80]) from None
    if is_folder:
        return _read_folder(path, source, options)
    looks_like_hub = (
        re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@\w+)?", source) and format_of(path.name) is None
    )
    if looks_like_hub and not path.parent.exists():
        raise DataError(
            "there is no such file",
            where=source,
            fix=f"check the path; for a hub data set write {PREFIX}{source}",
        )
    return Tables({"all": read_file(source, options)}, source)


def _read_folder(folder: Path, source: str, options: DataOptions) -> Tables:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as problem:
        raise MissingResource(
            f"the folder cannot be listed: {problem.strerror}", where=source, fix="check its permissions"
        ) from None
    chosen: dict[str, str] = {}
    ignored: list[str] = []
    for name in names:
        split = split_of(_stem(name)) if format_of(name, options.format) else None
        if split is None or not (folder / name).is_file():
            ignored.append(name)
        elif split in chosen:
            raise DataError(
                f"both {chosen[split]} and {name} would be the {split} split",
                where=source,
                fix="keep one of them in the folder",
            )
        else:
            chosen[split] = name
    if "train" not in chosen:
        raise DataError(
            f"the folder has no train file; it holds {_listed(names)}",
            where=source,
            fix=f"name the file train with a suffix of {', '.join(_known_suffixes())}, or give a file",
        )
    decisions = (
        [f"Files of {source} that are no split were left aside: {_listed(ignored)}."] if ignored else []
    )
    tables = {
        split: read_file(os.path.join(source, chosen[split]), options)  # noqa: PTH118 - as the user wrote it
        for split in ("train", "validation", "test")
        if split in chosen
    }
    return Tables(tables, source, decisions)


def _with_split(tables: Tables, split: str, source: str, options: DataOptions) -> Tables:
    decisions = list(tables.decisions)
    if split in tables.splits:
        decisions.append(f"{split}: {source} is read instead of {tables.splits[split].source}.")
    # With a second file, a single file is no longer everything: it is the training data.
    splits = {"train" if name == "all" else name: table for name, table in tables.splits.items()}
    splits[split] = read_file(source, options)
    return replace(
        tables, splits=splits, origin=f"{tables.origin}, {split} from {source}", decisions=decisions
    )


def _stem(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).stem


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:10]) or "nothing"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
