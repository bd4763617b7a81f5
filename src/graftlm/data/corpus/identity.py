"""What a corpus was made from, as JSON values; in whose folder a build may go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from graftlm.data.corpus.shards import FORMAT_VERSION
from graftlm.errors import DataError, MissingResource
from graftlm.progress import Progress

UNFINISHED, LOCK = "unfinished.json", "lock"
_NAMES = {
    "source": "the text",
    "tokenizer": "the tokenizer",
    "vocabulary_size": "the size of the vocabulary",
    "seed": "the seed",
}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return a hash of what a corpus was made from; when its files were last changed does not count."""
    content = json.dumps([FORMAT_VERSION, _content(identity)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def _content(identity: Mapping[str, Any]) -> dict[str, Any]:
    source = [
        {key: value for key, value in entry.items() if key != "modified"} for entry in identity["source"]
    ]
    return {**identity, "source": source}


def require_same(recorded: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise `DataError` with what differs unless two identities have one fingerprint."""
    if fingerprint(recorded) == fingerprint(wanted):
        return
    before, now = _content(recorded), _content(wanted)
    options = {key for key in now["options"] if before["options"].get(key) != now["options"][key]}
    names = [name for key, name in _NAMES.items() if before.get(key) != now[key]]
    differing = [*(f"corpus.{key}" for key in sorted(options)), *names]
    raise DataError(
        f"this folder holds a corpus that was made otherwise; what differs: {', '.join(differing)}",
        where=str(folder),
        fix="restore what differs, or start a new run",
    )


def read_unfinished(folder: Path) -> dict[str, Any] | None:
    """Return what a build noted that was interrupted, None where there was none.

    Raises:
        DataError: the folder holds something else, or the note is damaged.
    """
    path = folder / UNFINISHED
    try:
        if not path.exists():
            names = [entry.name for entry in folder.iterdir()]
            others = [name for name in names if name != LOCK and not name.startswith(".")]
            if others:
                raise DataError(
                    f"this folder holds something else than a corpus: {', '.join(sorted(others)[:5])}",
                    where=str(folder),
                    fix="name a folder that is empty or not there yet",
                )
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise MissingResource(f"cannot be read: {problem.strerror}", where=str(folder)) from None
    except ValueError as problem:
        raise DataError(f"is damaged: {problem}", where=str(path), fix="delete this folder") from None


@contextmanager
def locked(folder: Path, progress: Progress) -> Generator[None]:
    """Hold the folder of a corpus, or of its tokenizer; wait, and say so, while another process makes it."""
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say(f"Another process is making {folder}; waiting for it.")
            lock.acquire()
    except OSError as problem:
        raise MissingResource(
            f"this folder cannot be written: {problem.strerror}",
            where=str(folder),
            fix="free disk space or check permissions",
        ) from None
    try:
        yield
    finally:
        lock.release()
