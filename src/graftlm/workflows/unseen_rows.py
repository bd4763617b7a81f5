"""Rows for a finished model, to predict or to score: all of a source, nothing carved, nothing unusable."""

from __future__ import annotations

from collections.abc import Sequence

from graftlm.checking.text_checks import check_texts
from graftlm.data.dataset import Dataset, Split
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.places import counted
from graftlm.data.roles import INPUT_KINDS, Role, present
from graftlm.data.whole import assemble_rows
from graftlm.data.words import as_text
from graftlm.errors import DataError
from graftlm.progress import Progress

# Which recipe keys matter to a model that is finished: how rows are read, and how they are computed.
READING_KEYS = (
    "data.columns",
    "data.group_column",
    "data.drop_empty_text",
    "data.drop_misfit_spans",
    "data.format",
    "data.encoding",
    "data.delimiter",
    "data.max_row_bytes",
)
COMPUTING_KEYS = ("training.device", "evaluation.batch_size")


def read_unseen(data: object, roles: Sequence[Role], options: DataOptions, progress: Progress) -> Split:
    """Return the rows of ``data`` (None reads ``options.path``), in order.

    Rows with an empty text are refused, or left out aloud where ``options.drop_empty_text`` says so.

    Raises:
        DataError: the source is malformed, or holds texts that no model can read.
    """
    said: list[str] = []
    split = assemble_rows(read_tables(data, options), roles, options, said)
    for sentence in said:
        progress.say(sentence)
    names = [role.name for role in present(roles, split) if role.kind in INPUT_KINDS]
    if options.drop_empty_text:
        kept = [
            row
            for row in range(len(split))
            if all(as_text(split.columns[name][row]).strip() for name in names)
        ]
        if len(kept) < len(split):
            progress.warn(f"{counted(len(split) - len(kept), 'row')} with an empty text left out")
            split = split.take(kept)
    findings = [
        item for item in check_texts(Dataset({split.name: split}, ""), names) if item.severity == "error"
    ]
    if findings:
        raise DataError("these rows cannot be used:" + "".join(f"\n  - {item}" for item in findings))
    return split
