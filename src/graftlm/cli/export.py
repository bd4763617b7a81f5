"""``graft export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def export(
    run: Path,
    folder: Path,
    *overrides: str,
    data: str | None = None,
    int8: Annotated[bool, Parameter(negative="")] = False,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write the network of a finished run as ONNX, in a folder that ONNX Runtime and transformers.js read.

    What it says about the validation rows of the run is compared with what the trained network says; an export that
    says something else is not written. `graft predict` and `graft evaluate` open the folder.

    Parameters
    ----------
    run
        A run directory or a model folder.
    folder
        The folder to make.
    overrides
        Keys that say how the rows of --data are read, for instance data.columns.text=review; any other is refused.
    data
        Labelled data to compare on instead of the rows of the run; where they have splits validation, else train.
    int8
        Write a quantised network as well: a quarter of the size. The report says what it costs.
    json_output
        Print the report as one JSON object on standard output.
    quiet
        No progress.
    """
    import contextlib

    from graftlm.errors import ConfigurationError
    from graftlm.progress import Silent
    from graftlm.recipe import load_part
    from graftlm.reports.display import Display
    from graftlm.rundir import require_folder

    require_folder(run)
    if overrides and data is None:
        raise ConfigurationError(
            "the rows of the run are read as in training",
            where=overrides[0],
            fix="name other rows with --data",
        )
    from graftlm.data.loading import read_tables
    from graftlm.workflows.unseen_rows import SCORING_KEYS

    options = load_part("graft export", SCORING_KEYS, overrides, data or "").data
    tables = read_tables(None, options) if data is not None else None
    # Only now is torch loaded: a file that cannot be read is refused without it.
    from graftlm.reports.export_card import parity_sentence, size_of
    from graftlm.workflows.export import export as write

    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet else stack.enter_context(Display())
        report = write(run, folder, tables, options, int8, progress)
    if json_output:
        print(json.dumps(report, ensure_ascii=False))
        return 0
    for precision, network in report["networks"].items():
        print(f"{precision}, {size_of(network)}: {parity_sentence(network['parity'])}")
    print(f"{folder}   (onnx/  config.json  export.json  README.md; use it: graft predict {folder} rows.csv)")
    return 0
