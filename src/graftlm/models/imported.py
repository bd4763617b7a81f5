"""A model folder that is made from files of another form: it gets its name when it is whole and has been loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from graftlm.errors import MissingResource, ModelError
from graftlm.models.base_model import load_model, load_tokenizer
from graftlm.models.locating import BaseFiles, fingerprint
from graftlm.rundir import sync_folder


@contextmanager
def imported_folder(folder: Path, source: Path, architectures: Sequence[str]) -> Generator[Path]:
    """Give an empty folder to write a model into; after the block it is loaded, synced and renamed to ``folder``.

    Args:
        folder: must not exist, or be empty.
        source: where the model comes from, for messages.
        architectures: auto classes of transformers; of the first that the family has, every weight must be there.

    Raises:
        ModelError: there is such a folder, or what was written cannot be loaded.
        MissingResource: the disk is full or may not be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            "this exists already; nothing is overwritten", where=str(folder), fix="choose another name"
        )
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        _load(partial, source, architectures)
        for file in partial.iterdir():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
        partial.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise MissingResource(
            f"the model cannot be written: {error.strerror or error}",
            where=str(folder),
            fix="free disk space or check permissions",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _load(folder: Path, source: Path, architectures: Sequence[str]) -> None:
    files = BaseFiles(folder, str(folder), None, fingerprint(folder))
    try:
        load_tokenizer(files, positions=False)
        new = load_model(files, architectures, {}, seed=0).new_parameters
    except ModelError as error:
        raise ModelError(
            f"what was imported does not load: {error.what}", where=str(source), fix=error.fix
        ) from error
    new = [name for name in new if "pooler." not in name]
    if new:
        raise ModelError(f"weights are missing: {', '.join(new[:5])}", where=str(source))
