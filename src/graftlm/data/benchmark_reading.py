"""A benchmark by its name, from the hub or from a folder with the official files -> tables that say what they mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from graftlm.data.benchmarks import BENCHMARKS, Benchmark, Layout
from graftlm.data.hub import fetch
from graftlm.data.memory import table_of
from graftlm.data.official_files import read_fields
from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.data.table import Meaning, Table, Tables
from graftlm.errors import DataError, MissingResource, nearest

_FAMILIES = tuple(dict.fromkeys(f"{name.partition(':')[0]}:" for name in BENCHMARKS))
_ADDRESS = re.compile(r"(?P<name>[^@=]*)(@(?P<revision>.+)|=(?P<folder>.+))?")

ReadFile = Callable[[str, DataOptions], Table]


def is_benchmark(address: str) -> bool:
    """Whether an address begins like that of a benchmark; such a one is never a path."""
    return address.startswith(_FAMILIES)


def folder_of(address: str) -> str | None:
    """Return the local folder that the address of a benchmark names; None where it names none."""
    parts = _ADDRESS.fullmatch(address)
    return parts["folder"] if parts and is_benchmark(address) else None


def held_out_as(address: str, origin: str) -> dict[str, str] | None:
    """Return how hubs call the held-out rows of a benchmark: name, type, config, split, revision.

    Rows of a folder are called by the address, which names it: nobody knows which revision they are.

    Args:
        address: as the user wrote it.
        origin: of the rows as the run recorded it; what begins otherwise was not read from this address.

    Returns:
        None: the rows are no benchmark's.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or parts["name"] not in BENCHMARKS or not origin.startswith(f"{address}, "):
        return None
    if parts["folder"]:
        return {"name": address, "type": "custom", "split": "test"}
    benchmark = BENCHMARKS[parts["name"]]
    commit = re.match(r", commit ([^ ,]+),", origin.removeprefix(address))
    known = {
        "name": parts["name"],
        "type": benchmark.repository,
        "config": benchmark.configuration,
        "split": benchmark.held_out,
        "revision": commit[1] if commit else parts["revision"],
    }
    return {key: value for key, value in known.items() if value is not None}


def read_benchmark(address: str, options: DataOptions, read_file: ReadFile) -> Tables:
    """Read ``glue:rte``, ``glue:rte@revision`` or ``glue:rte=FOLDER``: train, and the official held-out rows as test.

    The rows that others publish numbers on are those of the validation split, because the labels of the test split are
    not public. They are the test split of a run, so that nothing is chosen on them; what chooses is carved from train.

    Args:
        address: as the user wrote it.
        options: the ``data`` section of the recipe.
        read_file: reads a file whose format names its columns.

    Raises:
        DataError: there is no such benchmark, or the folder does not hold its files as they should be.
        MissingResource: the hub cannot be reached, or the folder cannot be read.
    """
    parts = _ADDRESS.fullmatch(address)
    name = parts["name"] if parts else address
    if parts is None or name not in BENCHMARKS:
        raise DataError(
            f"no benchmark is called {name!r}.{nearest(name, BENCHMARKS)} Known: {', '.join(BENCHMARKS)}",
            where=address,
            fix="write for instance glue:rte, glue:rte@revision, or glue:rte=FOLDER with the official files",
        )
    benchmark = BENCHMARKS[name]
    if parts["folder"]:
        layout, folder = _find(benchmark, name, parts["folder"])
        train = _read(benchmark, layout, folder, layout.train, options, read_file)
        test = _read(benchmark, layout, folder, layout.held_out, options, read_file)
        origin, said = address, []
        official = layout.rows or benchmark.rows
        which = layout.note or _which(" and ".join(layout.held_out))
    else:
        try:
            fetched = fetch(address, benchmark.repository, benchmark.configuration, parts["revision"])
        except MissingResource as error:
            raise MissingResource(
                error.what,
                where=error.where,
                fix="check the network and the access rights, or name a folder with the official files: "
                f"{name}=FOLDER",
            ) from None
        lacking = [split for split in ("train", benchmark.held_out) if split not in fetched.splits]
        if lacking:
            raise DataError(
                f"{benchmark.repository} has no split {' and '.join(lacking)} at this revision; it has "
                f"{', '.join(fetched.splits)}",
                where=address,
                fix="name another revision",
            )
        train, test = (table_of(fetched.splits[key], key, address) for key in ("train", benchmark.held_out))
        origin, said = fetched.origin, fetched.decisions
        official, which = benchmark.rows, _which(benchmark.held_out)
    said = [*said, which]
    for split, table, size in zip(("train", "test"), (train, test), official, strict=True):
        if len(table) != size:
            said.append(
                f"{split.capitalize()} has {counted(len(table), 'row')}, the official one {size:,}: the scores compare "
                "with no published ones."
            )
    said.append(f"Official metrics of {name}: {', '.join(benchmark.metrics)}.")
    rows = counted(len(train) + len(test), "row")
    meaning = Meaning(name, benchmark.task, benchmark.columns, benchmark.metrics[0])
    return Tables({"train": train, "test": test}, f"{origin}, {rows}", said, meaning)


def _which(held_out: str) -> str:
    return f"The test split of this run is the official {held_out}, as the labels of the official test are not public."


def _find(benchmark: Benchmark, name: str, written: str) -> tuple[Layout, str]:
    """Return the layout whose files are there, and the folder they are in, as the user wrote it."""
    folders = [written, os.path.join(written, benchmark.folder)] if benchmark.folder else [written]  # noqa: PTH118
    for folder in folders:
        there = _names(folder)
        for layout in benchmark.layouts:
            if all(_stored(file, there) for file in (*layout.train, *layout.held_out)):
                return layout, folder
    known = " or ".join(", ".join((*layout.train, *layout.held_out)) for layout in benchmark.layouts)
    found = sorted(_names(written))
    shown = f"{', '.join(found[:10])}{' ...' if len(found) > 10 else ''}" or "nothing"
    if not Path(written).expanduser().is_dir():
        raise DataError("there is no such folder", where=written, fix=f"give a folder that holds {known}")
    raise DataError(
        f"the folder does not hold the official files of {name}; it holds {shown}",
        where=written,
        fix=f"put {known} there (each also .gz), or leave out ={written} to take {name} from the hub",
    )


def _names(folder: str) -> set[str]:
    path = Path(folder).expanduser()
    try:
        return {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    except OSError as problem:
        raise MissingResource(
            f"the folder cannot be listed: {problem.strerror}", where=folder, fix="check its permissions"
        ) from None


def _stored(file: str, there: set[str]) -> str | None:
    return next((name for name in (file, f"{file}.gz") if name in there), None)


def _read(
    benchmark: Benchmark,
    layout: Layout,
    folder: str,
    files: tuple[str, ...],
    options: DataOptions,
    read_file: ReadFile,
) -> Table:
    """Read one split and give its labels their official names."""
    there = _names(folder)
    sources = [os.path.join(folder, _stored(file, there) or file) for file in files]  # noqa: PTH118 - as the user wrote it
    if not layout.fields:
        return read_file(sources[0], options)
    tables = [
        read_fields(source, layout.fields, options, keep_going=benchmark.drops_broken_rows)
        for source in sources
    ]
    table = tables[0] if len(tables) == 1 else _joined(tables, folder)
    if not benchmark.labels:
        return table
    column = benchmark.columns["label"]
    return replace(table, columns={**table.columns, column: _official(table, column, benchmark.labels)})


def _joined(tables: list[Table], folder: str) -> Table:
    """Return the rows of all tables in one; each is called by its file and line."""
    columns = {
        name: [value for table in tables for value in table.columns[name]] for name in tables[0].columns
    }
    names = [os.path.relpath(table.place(row), folder) for table in tables for row in range(len(table))]
    said = [sentence for table in tables for sentence in table.said]
    return Table(folder, columns, None, typed=True, names=names, said=said)


def _official(table: Table, column: str, labels: tuple[str, ...]) -> list[object]:
    names: Mapping[object, str] = {**{str(number): label for number, label in enumerate(labels)},
                                   **{label: label for label in labels}}  # fmt: skip
    values = table.columns[column]
    wrong = [row for row, value in enumerate(values) if value not in names]
    if wrong:
        raise DataError(
            f"{counted(len(wrong), 'row')} without a label of this benchmark, first at {table.place(wrong[0])}; "
            f"known: {', '.join(labels)}, or their numbers from 0",
            where=table.source,
            fix="take the official files as they are",
        )
    return [names[value] for value in values]
