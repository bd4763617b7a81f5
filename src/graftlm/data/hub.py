"""Data sets of the Hugging Face hub: the only place of the data layer that may use the network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graftlm.data.memory import split_tables
from graftlm.data.places import counted
from graftlm.data.table import Tables
from graftlm.errors import DataError, MissingResource, clip, nearest

PREFIX = "hub:"
_SHOWN = 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
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


@dataclass(frozen=True)
class Streamed:
    """One split of a data set of the hub, which stays there; its rows come one by one.

    Args:
        address: as the user wrote it.
        decisions: what is to be said about the revision.
        rows_total: how many rows there are; None where the hub does not say.
        dataset: a ``datasets.IterableDataset``.
    """

    address: str
    decisions: list[str]
    rows_total: int | None
    dataset: Any

    def rows(self, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
        """Yield each row, ``columns`` alone.

        Raises:
            DataError: there is no such column.
            MissingResource: the hub gives no more data.
        """
        dataset = self.dataset
        known: list[str] | None = dataset.column_names
        if known is not None:
            lacking = next((column for column in columns if column not in known), None)
            if lacking is not None:
                raise DataError(
                    f"has no column {clip(lacking)}; its columns: {', '.join(map(clip, known))}."
                    f"{nearest(lacking, known)}",
                    where=self.address,
                    fix="name the column that holds the text",
                )
            # Other columns may hold images or sound, which need not be decoded.
            dataset = dataset.select_columns(list(columns))
        done = 0
        try:
            for row in dataset:
                yield row
                done += 1
        except Exception as problem:
            what = f"the hub gave no more data after {counted(done, 'row')}"
            raise _unreachable(self.address, problem, what) from None


def read_hub(address: str) -> Tables:
    """Read ``hub:org/name``, ``hub:org/name:configuration``, each also ``@revision``, with all its splits.

    Raises:
        DataError: there is no such data set, one of several configurations must be named, or it cannot be used.
        MissingResource: the hub cannot be reached.
    """
    fetched = fetch(address, *_parts(address))
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
    commit = _commit(name, revision)
    found = _load(address, name, configuration, revision, commit, streaming=False)
    known = f", commit {commit}" if commit not in (None, revision) else ""
    return Fetched(found, f"{address}{known}", _decisions(address, revision, commit))


def commit_of(address: str) -> str | None:
    """Return the commit that an address means now; None where the hub does not say."""
    name, _, revision = _parts(address)
    return revision if revision and _COMMIT.fullmatch(revision) else _commit(name, revision)


def stream(address: str, split: str, commit: str | None) -> Streamed:
    """Open one split of ``hub:org/name`` (forms as in `read_hub`) without downloading it first.

    Args:
        address: of the data set.
        split: as the hub names it.
        commit: what `commit_of` said.

    Raises:
        DataError: there is no such data set, configuration, revision or split.
        MissingResource: the hub cannot be reached.
    """
    name, configuration, revision = _parts(address)
    found = _load(address, name, configuration, revision, commit, streaming=True)
    if split not in found:
        raise DataError(
            f"has no split {clip(split)}; it has {', '.join(map(clip, found))}.{nearest(split, found)}",
            where=address,
            fix="name one of these",
        )
    sizes: Any = found[split].info.splits or {}
    rows_total = sizes[split].num_examples if split in sizes else None
    return Streamed(address, _decisions(address, revision, commit), rows_total, found[split])


def _parts(address: str) -> tuple[str, str | None, str | None]:
    """Return name, configuration and revision."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise DataError(
            "no data set is named",
            where=address,
            fix="write hub:org/name, hub:org/name@revision or hub:org/name:configuration@revision",
        )
    return parts["name"], parts["configuration"], parts["revision"]


def _load(
    address: str,
    name: str,
    configuration: str | None,
    revision: str | None,
    commit: str | None,
    *,
    streaming: bool,
) -> Any:
    # datasets takes over a second to load and only hub data needs it.
    import datasets

    try:
        return datasets.load_dataset(
            _remote(name), configuration, revision=commit or revision, streaming=streaming
        )
    except (FileNotFoundError, ValueError) as problem:
        if not isinstance(problem, FileNotFoundError):
            _require_configuration(address, name, configuration, revision)
        raise DataError(
            f"cannot be read: {_one_line(problem)}", where=address, fix="check the name and the revision"
        ) from None
    except Exception as problem:
        # The hub client raises the errors of whichever transport it uses; all mean: not reachable now.
        raise _unreachable(address, problem, "the hub gave no data") from None


def _unreachable(address: str, problem: Exception, what: str) -> MissingResource:
    return MissingResource(
        f"{what}: {type(problem).__name__}: {_one_line(problem)}",
        where=address,
        fix="check the network and the access rights, or give a local file",
    )


def _decisions(address: str, revision: str | None, commit: str | None) -> list[str]:
    newest = "the newest" if commit is None else f"the newest, commit {commit},"
    said = f"{address} names no revision: {newest} was read; write @revision to fix it."
    return [] if revision else [said]


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
