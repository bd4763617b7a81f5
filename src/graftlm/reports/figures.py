"""The stored evaluations of a run as sentences and Markdown tables."""

from __future__ import annotations

import json
from typing import Any

from graftlm.rundir import RunDirectory
from graftlm.scoring.scores import Score, Scores

SELECTED = "selected: these rows also chose the weights or a threshold"


def read_evaluation(run: RunDirectory, split: str) -> dict[str, Any]:
    """Return the stored evaluation of a split."""
    return json.loads(run.evaluation(split).read_text(encoding="utf-8"))


def figure(value: float, name: str) -> str:
    """Return a value of a metric: shares and correlations to three places, errors in their own unit to three digits."""
    return f"{value:.3g}" if name.endswith("_error") else f"{value:.3f}"


def interval(score: Score, name: str = "") -> str:
    """Return ``0.912 [0.887, 0.934]``."""
    return f"{figure(score.value, name)} [{figure(score.low, name)}, {figure(score.high, name)}]"


def headline_sentence(evaluation: dict[str, Any]) -> str:
    """Return the one sentence a reader should take away from an evaluation."""
    scores, baseline = Scores.load(evaluation["scores"]), Scores.load(evaluation["baseline"]["scores"])
    selected = f" ({SELECTED}, so expect less on new rows)"
    return (
        f"{scores.primary} {interval(scores.headline, scores.primary)} on {scores.rows} rows of {evaluation['split']}, "
        f"{scores.confidence:.0%} interval; {evaluation['baseline']['name']} gives "
        f"{figure(baseline.headline.value, scores.primary)}" + (selected if evaluation["selected"] else "")
    )


def metric_table(evaluation: dict[str, Any]) -> str:
    """Return the averaged metrics as a Markdown table, the baseline in the last column."""
    scores, baseline = Scores.load(evaluation["scores"]), Scores.load(evaluation["baseline"]["scores"])
    lines = [f"| metric | value [{scores.confidence:.0%} interval] | baseline |", "|---|---|---|"]
    lines += [
        f"| {name} | {interval(score, name)} | {figure(baseline.values[name].value, name)} |"
        for name, score in scores.values.items()
        if "[" not in name
    ]
    return "\n".join(lines)


def label_table(evaluation: dict[str, Any]) -> str:
    """Return precision, recall and F1 of each label as a Markdown table."""
    scores = Scores.load(evaluation["scores"])
    lines = ["| label | rows | precision | recall | F1 |", "|---|---|---|---|---|"]
    for position, label in enumerate(scores.labels):
        cells = [interval(scores.values[f"{metric}[{label}]"]) for metric in ("precision", "recall", "f1")]
        lines.append(f"| {_cell(label)} | {scores.references[position]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def confusions(evaluation: dict[str, Any], most: int = 10) -> str:
    """Return the most frequent mistakes as a Markdown table, or a sentence when there is none."""
    scores = Scores.load(evaluation["scores"])
    mistakes = sorted(
        (
            (-count, scores.labels[reference], scores.labels[predicted])
            for reference, row in enumerate(scores.confusion)
            for predicted, count in enumerate(row)
            if count and reference != predicted
        ),
    )
    if not mistakes:
        return "No mistakes on these rows."
    lines = ["| true label | predicted | rows |", "|---|---|---|"]
    lines += [
        f"| {_cell(true)} | {_cell(predicted)} | {-count} |" for count, true, predicted in mistakes[:most]
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
