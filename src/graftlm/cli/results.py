"""How results look on a terminal and as JSON."""

from __future__ import annotations

import json

from rich.table import Table
from rich.text import Text

from graftlm.data.places import counted
from graftlm.reports.figures import (
    SELECTED,
    agreement,
    all_right,
    change,
    collapsed,
    figure,
    other_baselines,
    value_of,
)
from graftlm.reports.terminal import Terminal
from graftlm.run import Run
from graftlm.rundir import RunDirectory
from graftlm.scoring.scores import Scores


def print_result(run: Run, as_json: bool, quiet: bool) -> None:
    """Print what a finished run came to; other ranks of a distributed run stay silent."""
    record = run.record
    if record["state"] != "finished":
        return
    split = record.get("headline")
    if as_json:
        result = {"run": str(run.path), "headline": split, "proof": record["proof"]}
        if split is not None:
            result["evaluation"] = run.evaluation(split)
        print(json.dumps(result, ensure_ascii=False))
        return
    if quiet:
        return
    console = Terminal()
    if split is None:
        console.print("Nothing was held out, so there is no score.")
    else:
        evaluation = run.evaluation(split)
        baseline, scores = (Scores.load(each["scores"]) for each in (evaluation["baseline"], evaluation))
        caption = SELECTED if evaluation["selected"] else None
        console.print(score_table(scores, split, baseline, caption))
        if unseen := all_right(scores, evaluation["selected"]):
            console.print(unseen)
        console.print(f"baseline: {evaluation['baseline']['name']}")
        for sentence in other_baselines(evaluation):
            console.print(sentence)
        if same := evaluation.get("same_answer"):
            console.print(collapsed(same), style="yellow")
    proof = record["proof"]
    if proof["done"]:
        console.print(f"proved: a fresh process reloaded the model and {agreement(proof)}")
    else:
        console.print("NOT proved: no fresh process has reloaded this model", style="yellow")
    console.print(f"training: {record['training_seconds']:.1f} s, {record['steps']} steps")
    console.print(f"run: {run.path}   (model/  model/README.md  recipe.yaml  report.md)")


def print_pretraining(run: RunDirectory, as_json: bool, quiet: bool) -> None:
    """Print what a finished pretraining came to."""
    record = run.read_record()
    if record["state"] != "finished":
        return
    evaluations = {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name in ("held_out", "general_text")
        if (file := run.evaluation(name)).exists()
    }
    if as_json:
        result = {
            "run": str(run.path),
            "base": str(run.model),
            "proof": record["proof"],
            "evaluations": evaluations,
        }
        print(json.dumps(result, ensure_ascii=False))
        return
    if quiet:
        return
    console = Terminal()
    if not evaluations:
        console.print("Nothing was held out, so there is no score.")
    for name, evaluation in evaluations.items():
        baseline, scores = (Scores.load(each["scores"]) for each in (evaluation["baseline"], evaluation))
        before = evaluation["before"] and {
            key: Scores.load(each) for key, each in evaluation["before"].items()
        }
        console.print(score_table(scores, name.replace("_", " "), baseline, of="document", before=before))
        console.print(f"baseline: {evaluation['baseline']['name']}")
    if record["proof"]["done"]:
        console.print("proved: a fresh process reloaded the model and says the same")
    else:
        console.print("NOT proved: no fresh process has reloaded this model", style="yellow")
    console.print(f"training: {record['training_seconds']:.1f} s, {record['steps']} steps")
    console.print(f"base model: {run.model}   (use it: graft finetune rows.csv base={run.model})")


def print_scores(scores: Scores, title: str) -> None:
    """Print what `graft evaluate` found."""
    console = Terminal()
    console.print(score_table(scores, title, caption=training_caption(scores)))
    if unseen := all_right(scores):
        console.print(unseen)


def training_caption(scores: Scores) -> str | None:
    """Return the line below a table whose rows were partly in training, also where warnings are not shown."""
    if not scores.rows_in_training:
        return None
    return (
        f"optimistic: {scores.rows_in_training} of these {scores.rows} rows have a text that was in training"
    )


# Equal to accuracy where each row has one label.
_LIKE_ACCURACY = ("f1_micro", "precision_micro", "recall_micro", "recall_weighted")


def score_table(
    scores: Scores,
    split: str,
    baseline: Scores | None = None,
    caption: str | None = None,
    of: str = "row",
    before: dict[str, Scores] | None = None,
) -> Table:
    """Return the averaged metrics as a table; its title says how many of what were scored.

    ``before`` holds the ``scores`` of the model that was trained further, and the ``change`` from them.
    """
    table = Table(title=Text(f"{split}, {counted(scores.rows, of)}"), title_justify="left", caption=caption)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(f"{scores.confidence:.0%} interval", justify="right")
    if baseline is not None:
        table.add_column("baseline", justify="right")
    if before is not None:
        table.add_column("before", justify="right")
        table.add_column("change", justify="right")
    shown = [scores.primary, *(name for name in scores.values if "[" not in name and name != scores.primary)]
    for name in shown:
        if name in _LIKE_ACCURACY and "accuracy" in scores.values:
            continue
        score = scores.values[name]
        cells = [name, figure(score.value, name), f"{figure(score.low, name)} – {figure(score.high, name)}"]
        if baseline is not None:
            cells.append(value_of(baseline, name))
        if before is not None:
            cells += [value_of(before["scores"], name), change(before["change"].values[name])]
        table.add_row(*cells, style="bold" if name == scores.primary else None)
    return table
