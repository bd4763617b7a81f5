"""``graft import-checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def import_checkpoint(
    source: Path,
    folder: Path,
    *,
    lowercase: Annotated[bool | None, Parameter(negative="--cased")] = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make a base model folder from an original BERT checkpoint of TensorFlow, or from pytorch_model.bin.

    A checkpoint needs the extra [tensorflow]; the folder that is made does not. Nothing in the files is run.

    Parameters
    ----------
    source
        A folder with bert_config.json, vocab.txt and bert_model.ckpt.*, or the prefix of a checkpoint in it; or a
        folder with config.json, a tokenizer and pytorch_model.bin.
    folder
        The folder to make.
    lowercase
        Whether a BERT checkpoint is for lower-cased texts; by default its folder's name or its vocabulary tells, and
        what they tell is said.
    quiet
        Say nothing but the folder.
    """
    import contextlib

    from graftlm.reports.display import Display
    from graftlm.workflows.import_checkpoint import import_checkpoint as make

    with contextlib.ExitStack() as stack:
        files = make(source, folder, lowercase, None if quiet else stack.enter_context(Display()))
    print(files.folder if quiet else f"{files.folder}: use it with base={files.folder}")
    return 0
