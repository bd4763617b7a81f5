"""``report.md``: what a reader should conclude from a run, made from its directory alone."""

from __future__ import annotations

from typing import Any

from graftlm.data.places import counted
from graftlm.reports.figures import (
    agreement,
    confusions,
    headline_sentence,
    label_table,
    metric_table,
    read_evaluation,
)
from graftlm.rundir import RunDirectory, write_bytes


def write_report(run: RunDirectory) -> None:
    """Write the report of a finished run."""
    write_bytes(run.report, render_report(run).encode())


def render_report(run: RunDirectory) -> str:
    """Return the report as Markdown."""
    record = run.read_record()
    headline = record.get("headline")
    parts = [f"# Report of {run.path.name}", ""]
    if headline is None:
        parts += ["Nothing was held out, so this run has no score."]
    else:
        evaluation = read_evaluation(run, headline)
        parts += [
            f"**{headline_sentence(evaluation)}.**", "", _proof(record), "",
            "## Scores", "", metric_table(evaluation), "",
        ]  # fmt: skip
        if evaluation["scores"]["labels"]:
            parts += ["## By label", "", label_table(evaluation), ""]
        if evaluation["scores"]["confusion"]:
            parts += ["## Most frequent mistakes", "", confusions(evaluation), ""]
        if headline == "test" and run.evaluation("validation").exists():
            parts += ["## Validation", "", f"{headline_sentence(read_evaluation(run, 'validation'))}.", ""]
    parts += ["## Data", "", *_data(record), "", "## Training", "", *_training(record), ""]
    return "\n".join(parts)


def _proof(record: dict[str, Any]) -> str:
    proof = record["proof"]
    if not proof["done"]:
        return (
            "The saved model was NOT proved: reloading it in a fresh process was switched off or had no rows."
        )
    return (
        f"Proved: a fresh process reloaded the saved model and {agreement(proof)} "
        f"(largest difference of a logit {proof['largest_difference']:.1e})."
    )


def _data(record: dict[str, Any]) -> list[str]:
    data = record["data"]
    rows = ", ".join(f"{name} {count}" for name, count in data["rows"].items())
    lines = [
        f"- from {data['origin']}: {rows} rows"
        + (f"; {len(record['labels'])} labels" if record["labels"] else "")
    ]
    lines += [f"- {sentence}" for sentence in data["decisions"]]
    lines += [f"- {item['severity']}: {item['message']}" for item in data["findings"]]
    lines += [
        f"- {count} texts of {name} were cut to the length limit"
        for name, count in data["truncated"].items()
        if count
    ]
    return lines


def _training(record: dict[str, Any]) -> list[str]:
    machine = record["machine"]
    return [
        f"- base model {record['base']['name']}; {record['steps']} steps in {record['training_seconds']:.1f} s, "
        f"weights of step {record['kept_step']} kept",
        f"- {record['device']}, {record['precision']}, {counted(machine['threads'], 'thread')} in "
        f"{'one process' if record['processes'] == 1 else str(record['processes']) + ' processes'}; "
        + ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
    ]
