"""``graft minimal-pairs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def minimal_pairs(
    base: str,
    path: Path,
    *,
    rows: int | None = None,
    within_word: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    output: Path | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Measure how often a base model finds the acceptable sentence of two more probable; a tie scores one half.

    Parameters
    ----------
    base
        A base model: bundled:NAME, a folder, or org/name@revision.
    path
        A folder with one .jsonl file for each paradigm, in the layout of BLiMP, or one such file.
    rows
        Take only the first so many pairs of each paradigm; the result says so.
    within_word
        Of an encoder, mask the later tokens of a word together with each (Kauf and Ivanova, 2023).
    device
        auto, cpu, cuda or mps.
    output
        A file to write the result to, as JSON.
    json_output
        Print the result as one JSON object on standard output.
    quiet
        No progress.
    """
    import contextlib

    from graftlm.reports.display import Display
    from graftlm.workflows.minimal_pairs import score_minimal_pairs

    with contextlib.ExitStack() as stack:
        progress = None if quiet else stack.enter_context(Display())
        result = score_minimal_pairs(base, path, rows, within_word, device, output, progress)
    if json_output:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _show(result)
    return 0


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from graftlm.reports.terminal import Terminal
    from graftlm.scoring.scores import Scores

    scores, data = Scores.load(result["scores"]), result["data"]
    first = data["first_rows_of_each_paradigm"]
    caption = f"only the first {first} pairs of each paradigm" if first else None
    title = f"{data['pairs']:,} minimal pairs of {data['paradigms']} paradigms by {result['method']}"
    table = Table(title=Text(title), title_justify="left", caption=caption)
    table.add_column("accuracy")
    table.add_column("value", justify="right")
    table.add_column(f"{scores.confidence:.0%} interval", justify="right")
    shown = {"all paradigms": scores.headline}
    shown |= {
        name.removeprefix("phenomenon[")[:-1]: each for name, each in scores.values.items() if name[0] == "p"
    }
    for name, each in shown.items():
        cells = (Text(name), f"{each.value:.3f}", f"{each.low:.3f} – {each.high:.3f}")
        table.add_row(*cells, style="bold" if each is scores.headline else None)
    Terminal().print(table)
