"""A model folder that is made from files of another form: it gets its name when it is whole and has been loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from graftlm.errors import ModelError
from graftlm.models.artefact import save_folder
from graftlm.models.base_model import load_model, load_tokenizer
from graftlm.models.locating import BaseFiles, fingerprint


def save_imported(
    folder: Path, source: Path, architectures: Sequence[str], write: Callable[[Path], None]
) -> None:
    """Write a model folder and load it, before it gets its name.

    Args:
        folder: must not exist, or be empty.
        source: where the model comes from, for messages.
        architectures: auto classes of transformers; of the first that the family has, every weight must be there.
        write: fills the folder that it is given.

    Raises:
        ModelError: there is such a folder, or what was written cannot be loaded.
        MissingResource: the disk is full or may not be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            "this exists already; nothing is overwritten", where=str(folder), fix="choose another name"
        )

    def write_and_load(partial: Path) -> None:
        write(partial)
        _load(partial, source, architectures)

    save_folder(folder, write_and_load, "free disk space or check permissions")


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
