"""Which texts a model was trained on, as hashes beside its run, so that scoring them again does not go unnoticed."""

from __future__ import annotations

from collections.abc import Sequence

from graftlm.data.dataset import Split
from graftlm.data.normalising import text_keys, unspaced
from graftlm.data.roles import INPUT_KINDS, Role, present
from graftlm.data.words import as_text
from graftlm.errors import MissingResource, RunError
from graftlm.rundir import RunDirectory, write_bytes

_WIDTH = 16


def write_training_texts(run: RunDirectory, train: Split, roles: Sequence[Role]) -> None:
    """Write 16 bytes for each different text of train, sorted, so that they tell nothing about the rows' order.

    Words count without white space, so that a text and the list of its words are one.
    """
    write_bytes(run.training_texts, b"".join(sorted(set(_keys(train, roles, unspaced_words=True)))))


def rows_in_training(run: RunDirectory, split: Split, roles: Sequence[Role]) -> list[int] | None:
    """Return the rows whose texts, apart from case and white space, were in training; None where nothing tells.

    Raises:
        RunError: the hashes of the run are damaged.
        MissingResource: they cannot be read.
    """
    try:
        content = run.training_texts.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MissingResource(f"cannot be read: {error.strerror}", where=str(run.training_texts)) from None
    if len(content) % _WIDTH:
        raise RunError(
            f"the hashes of the training texts are damaged: {len(content)} bytes are no multiple of {_WIDTH}",
            where=str(run.training_texts),
            fix="restore this file, or delete it: then nobody can tell which rows were in training",
        )
    trained = {content[start : start + _WIDTH] for start in range(0, len(content), _WIDTH)}
    # Older runs hold words with the spaces between them; no form of a text is that of another text.
    forms = zip(
        *(_keys(split, roles, unspaced_words=unspaced_words) for unspaced_words in (True, False)), strict=True
    )
    return [row for row, keys in enumerate(forms) if not trained.isdisjoint(keys)]


def _keys(split: Split, roles: Sequence[Role], *, unspaced_words: bool) -> list[bytes]:
    columns: list[Sequence[object]] = []
    for role in present(roles, split):
        values = split.columns[role.name]
        if role.kind == "words" and unspaced_words:
            columns.append([unspaced(as_text(value)) for value in values])
        elif role.kind in INPUT_KINDS:
            columns.append(values)
    return text_keys(columns)
