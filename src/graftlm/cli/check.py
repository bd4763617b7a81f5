"""``graft check``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from graftlm.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from graftlm.data.dataset import Split
    from graftlm.recipe import Recipe
    from graftlm.reports.terminal import Terminal

_SHOWN_ROWS = 3


def check(
    source: str,
    *overrides: str,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    show_loss: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Examine labelled data without training: exit code 5 when there are errors or warnings.

    Parameters
    ----------
    source
        A data file or folder, or a recipe (.yaml).
    overrides
        Recipe keys, for instance data.columns.text=review.
    json_output
        Print the findings as one JSON object on standard output.
    show_loss
        Show of the first training rows which tokens are learnt and which are only read, for tasks that write texts.
    """
    from graftlm.cli.words import recipe_or_data
    from graftlm.opening import open_rows
    from graftlm.reports.terminal import Terminal
    from graftlm.workflows.check import check as examine

    if json_output and show_loss:
        raise ConfigurationError(
            "what is learnt is shown, not written as JSON",
            where="--show-loss",
            fix="leave out --json or --show-loss",
        )
    try:
        recipe, tables = open_rows(*recipe_or_data(source, overrides), outline=not show_loss)
        result = examine(recipe, tables)
    except DataError as error:
        if json_output:
            unreadable = {
                "severity": "error",
                "kind": "unreadable",
                "message": error.what,
                "places": [error.where],
            }
            print(
                json.dumps({"findings": [{**unreadable, "count": 1, "fix": error.fix}]}, ensure_ascii=False)
            )
            return error.exit_code
        raise
    if json_output:
        rows = {name: len(split) for name, split in result.dataset.splits.items()}
        findings = [asdict(finding) for finding in result.findings]
        print(
            json.dumps(
                {"rows": rows, "decisions": result.dataset.decisions, "findings": findings},
                ensure_ascii=False,
            )
        )
        return 0 if result.clean else 5
    console = Terminal()
    for sentence in result.dataset.decisions:
        console.print(f"  {sentence}")
    styles = {"error": "bold red", "warning": "yellow", "note": "dim"}
    for finding in result.findings:
        console.print(f"{finding.severity}: {finding.message}", style=styles[finding.severity])
        if finding.places:
            more = " …" if finding.count > len(finding.places) else ""
            console.print(f"    at {', '.join(finding.places)}{more}")
        if finding.fix:
            console.print(f"    what to do: {finding.fix}")
    counts = {
        severity: sum(finding.severity == severity for finding in result.findings) for severity in styles
    }
    console.print(
        ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    )
    if show_loss:
        _show_loss(console, recipe, result.dataset.splits["train"])
    return 0 if result.clean else 5


def _show_loss(console: Terminal, recipe: Recipe, train: Split) -> None:
    """Print the first rows: bold green is learnt, the rest is only read."""
    from rich.text import Text

    from graftlm.workflows.show_loss import show_loss

    console.print(
        "\nLearnt tokens are bold and green, and stand in [[ ]] where there is no colour; the rest is read."
    )
    for place, pieces in zip(train.row_ids, show_loss(recipe, train, _SHOWN_ROWS), strict=False):
        learnt = sum(piece.tokens for piece in pieces if piece.learnt)
        console.print(
            f"\n{place}: {learnt} of {sum(piece.tokens for piece in pieces)} tokens are learnt", style="dim"
        )
        line = Text()
        for piece in pieces:
            if piece.learnt:
                line.append(piece.text if console.color_system else f"[[{piece.text}]]", style="bold green")
            else:
                line.append(piece.text)
        console.print(line)
