"""The stored evaluations of a run as sentences and Markdown tables."""

from __future__ import annotations

import json
from typing import Any

from graftlm.data.places import counted
from graftlm.rundir import RunDirectory
from graftlm.scoring.scores import Score, Scores

_ALL_OR_NOTHING = ("accuracy", "exact_match", "f1", "f1_macro", "f1_micro", "f1_weighted", "subset_accuracy")
"""Values that are 1 where every row is right, and only there."""
SELECTED = "selected: these rows also chose the weights or a threshold"


def read_evaluation(run: RunDirectory, split: str) -> dict[str, Any]:
    """Return the stored evaluation of a split."""
    return json.loads(run.evaluation(split).read_text(encoding="utf-8"))


def figure(value: float, name: str) -> str:
    """Return a value of a metric: shares and correlations to three places, errors in their own unit to three digits.

    BLEU, chrF and ROUGE are shown as their readers know them, from 0 to 100; they are stored from 0 to 1 like others.
    """
    if name in ("bleu", "chrf") or name.startswith("rouge"):
        return f"{100 * value:.1f}"
    if name == "perplexity":
        return f"{value:.4g}"
    return f"{value:.3g}" if name.endswith("_error") else f"{value:.3f}"


def other_baselines(evaluation: dict[str, Any]) -> list[str]:
    """Return a sentence for each further baseline: what it is, and its primary value."""
    sentences: list[str] = []
    for each in evaluation.get("other_baselines", []):
        scores = Scores.load(each["scores"])
        sentences.append(f"{each['name']} gives {scores.primary} {value_of(scores, scores.primary)}")
    return sentences


def value_of(scores: Scores, name: str) -> str:
    """Return a value of a baseline, or a dash: what has no probabilities has no perplexity."""
    return figure(scores.values[name].value, name) if name in scores.values else "-"


def interval(score: Score, name: str = "") -> str:
    """Return ``0.912 [0.887, 0.934]``."""
    return f"{figure(score.value, name)} [{figure(score.low, name)}, {figure(score.high, name)}]"


def agreement(proof: dict[str, Any]) -> str:
    """Return how a fresh process decided the rows of a proof: all of them alike, but for ties."""
    rows, ties = proof["rows"], proof.get("ties", 0)
    if not ties:
        return f"decided all {rows} rows alike"
    return f"decided {rows - ties} of {rows} rows alike, and {ties} otherwise in a tie"


def collapsed(same: str) -> str:
    """Return what to say of a model that answers every row alike."""
    return (
        f"the model has collapsed: it answers every row with {same}, whatever the row; train longer, or with another "
        "learning rate or more rows"
    )


def all_right(scores: Scores, selected: bool = False) -> str | None:
    """Return what rows that are all right say of further ones, as an interval drawn from them has no width.

    Where rows are independent ``1 - (1 - confidence) ** (1 / rows)`` bounds the share of further ones that are wrong:
    Clopper and Pearson, "The Use of Confidence or Fiducial Limits", 1934. Of rows that chose the weights, or were in
    training, nothing follows.
    """
    whole = scores.primary in _ALL_OR_NOTHING and scores.headline.value == scores.headline.low == 1.0
    if selected or scores.rows_in_training or not whole:
        return None
    wrong = 1.0 - (1.0 - scores.confidence) ** (1.0 / scores.rows)
    return (
        f"no interval can be drawn from {counted(scores.rows, 'row')} without a mistake: of further rows up to "
        f"{wrong:.2%} may be wrong, if rows are independent ({scores.confidence:.0%} confidence)"
    )


def headline_sentence(evaluation: dict[str, Any]) -> str:
    """Return the one sentence a reader should take away from an evaluation."""
    scores, baseline = Scores.load(evaluation["scores"]), Scores.load(evaluation["baseline"]["scores"])
    # What has no probabilities is compared by another value.
    shared = scores.primary if scores.primary in baseline.values else baseline.primary
    beside = value_of(baseline, shared)
    if shared != scores.primary:
        beside = f"{shared} {beside}, the model {value_of(scores, shared)}"
    sentence = (
        f"{scores.primary} {interval(scores.headline, scores.primary)} on {scores.rows} rows of {evaluation['split']}, "
        f"{scores.confidence:.0%} interval; {evaluation['baseline']['name']} gives {beside}"
    )
    if evaluation["selected"]:
        sentence += f" ({SELECTED}, so expect less on new rows)"
    same, unseen = evaluation.get("same_answer"), all_right(scores, evaluation["selected"])
    return "; ".join(filter(None, (sentence, same and collapsed(same), unseen)))


def change(score: Score) -> str:
    """Return a difference of two values with its sign: ``-0.512 [-0.551, -0.477]``."""
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"


def metric_table(evaluation: dict[str, Any]) -> str:
    """Return the averaged metrics as a Markdown table with the baseline and, if there is one, the model before."""
    scores, baseline = Scores.load(evaluation["scores"]), Scores.load(evaluation["baseline"]["scores"])
    columns = [f"value [{scores.confidence:.0%} interval]", "baseline"]
    cells = [
        [interval(score, name), value_of(baseline, name)]
        for name, score in scores.values.items()
        if "[" not in name
    ]
    names = [name for name in scores.values if "[" not in name]
    if evaluation.get("before"):
        before, changes = (Scores.load(evaluation["before"][key]) for key in ("scores", "change"))
        columns += ["before", "change"]
        for name, row in zip(names, cells, strict=True):
            row += [value_of(before, name), change(changes.values[name])]
    lines = [f"| metric | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in zip(names, cells, strict=True)]
    beside = [f"{sentence}." for sentence in other_baselines(evaluation)]
    beside += [f"{name}: `{signature}`" for name, signature in scores.signatures.items()]
    return "\n".join([*lines, *(f"\n{sentence}" for sentence in beside)])


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
