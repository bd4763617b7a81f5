"""Data sets of the Hugging Face hub: the only place of the data layer that may use the network."""

from __future__ import annotations

from typing import Any, cast

from graftlm.data.memory import split_tables
from graftlm.data.places import counted
from graftlm.data.table import Tables
from graftlm.errors import DataError, MissingResource

PREFIX = "hub:"


def read_hub(address: str) -> Tables:
    """Read ``hub:org/name`` or ``hub:org/name@revision`` with all its splits.

    Raises:
        DataError: there is no such data set, or it cannot be used as it is.
        MissingResource: the hub cannot be reached.
    """
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    if not name.strip("/"):
        raise DataError(
            "no data set is named", where=address, fix="write hub:org/name or hub:org/name@revision"
        )
    # datasets takes over a second to load and only hub data needs it.
    import datasets

    try:
        found: Any = datasets.load_dataset(name, revision=revision or None)
    except (FileNotFoundError, ValueError) as problem:
        raise DataError(
            f"cannot be read: {_one_line(problem)}", where=address, fix="check the name and the revision"
        ) from None
    except Exception as problem:
        # The hub client raises the errors of whichever transport it uses; all mean: not reachable now.
        raise MissingResource(
            f"the hub gave no data: {type(problem).__name__}: {_one_line(problem)}",
            where=address,
            fix="check the network and the access rights, or give a local file",
        ) from None
    splits, decisions = split_tables(cast("dict[object, object]", dict(found)), address)
    rows = sum(len(table) for table in splits.values())
    if not revision:
        decisions.append(f"{address} names no revision: the newest was read; write @revision to fix it.")
    return Tables(splits, f"{address}, {counted(rows, 'row')}", decisions)


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
