"""Data sets of the Hugging Face hub: the only place of the data layer that may use the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from graftlm.data.memory import split_tables
from graftlm.data.places import counted
from graftlm.data.table import Tables
from graftlm.errors import DataError, MissingResource, clip, nearest

PREFIX = "hub:"
_SHOWN = 20
_ADDRESS = re.compile(rf"{PREFIX}(?P<name>[^:@/][^:@]*)(:(?P<configuration>[^:@]+))?(@(?P<revision>.+))?")


@dataclass(frozen=True)
class Fetched:
    """A data set of the hub on this machine.

    Args:
        splits: the hub's name of each split -> its rows, a ``datasets.Dataset``.
        origin: address and commit, for the run record.
        decisions: what is to be said about the revision.
    """

    splits: Mapping[str, Any]
    origin: str
    decisions: list[str]


def read_hub(address: str) -> Tables:
    """Read ``hub:org/name``, ``hub:org/name:configuration``, each also ``@revision``, with all its splits.

    Raises:
        DataError: there is no such data set, one of several configurations must be named, or it cannot be used.
        MissingResource: the hub cannot be reached.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise DataError(
            "no data set is named",
            where=address,
            fix="write hub:org/name, hub:org/name@revision or hub:org/name:configuration@revision",
        )
    fetched = fetch(address, parts["name"], parts["configuration"], parts["revision"])
    splits, decisions = split_tables(cast("dict[object, object]", dict(fetched.splits)), address)
    rows = sum(len(table) for table in splits.values())
    return Tables(splits, f"{fetched.origin}, {counted(rows, 'row')}", [*decisions, *fetched.decisions])


def fetch(address: str, name: str, configuration: str | None, revision: str | None) -> Fetched:
    """Download a data set, or take what was downloaded before; a local folder of that name does not count.

    Args:
        address: as the user wrote it, for messages.
        name: ``org/name``.
        configuration: one of its configurations; None where it has one only.
        revision: a branch, a tag or a commit; None is the newest.

    Raises:
        DataError: there is no such data set or revision, or one of several configurations must be named.
        MissingResource: the hub cannot be reached.
    """
    # datasets takes over a second to load and only hub data needs it.
    import datasets

    commit = _commit(name, revision)
    try:
        found: Any = datasets.load_dataset(_remote(name), configuration, revision=commit or revision)
    except (FileNotFoundError, ValueError) as problem:
        if not isinstance(problem, FileNotFoundError):
            _require_configuration(address, name, configuration, revision)
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
    newest = "the newest" if commit is None else f"the newest, commit {commit},"
    decisions = (
        [] if revision else [f"{address} names no revision: {newest} was read; write @revision to fix it."]
    )
    known = f", commit {commit}" if commit not in (None, revision) else ""
    return Fetched(found, f"{address}{known}", decisions)


def _remote(name: str) -> str:
    # Without the scheme a local folder of that name would be read in place of the data set.
    return f"hf://datasets/{name}"


def _commit(name: str, revision: str | None) -> str | None:
    """Return the commit that a revision means now; None where the hub does not say, which the download will explain."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except Exception:  # of whichever transport the client uses
        return None


def _require_configuration(address: str, name: str, configuration: str | None, revision: str | None) -> None:
    """Refuse an address that names none, or an unknown one, of several configurations; list those there are."""
    import datasets

    try:
        known = datasets.get_dataset_config_names(_remote(name), revision=revision)
    except Exception:  # then the error that brought us here says more
        return
    if configuration in known or (configuration is None and len(known) < 2):
        return
    example = f"{PREFIX}{name}:{known[0]}{f'@{revision}' if revision else ''}"
    raise DataError(
        f"this data set has no configuration {clip(configuration)}.{nearest(configuration, known)}"
        if configuration
        else "this data set has several configurations, and none is named",
        where=address,
        fix=f"name one of {', '.join(known[:_SHOWN])}{' ...' if len(known) > _SHOWN else ''}, for instance {example}",
    )


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
