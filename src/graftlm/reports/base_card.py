"""``model/README.md`` of a base model that was pretrained, made from the run directory alone."""

from __future__ import annotations

import json
from typing import Any

import yaml

from graftlm.data.places import counted
from graftlm.reports.figures import metric_table, read_evaluation
from graftlm.rundir import RunDirectory, write_bytes

FEW_DOCUMENTS = 10
"""From fewer, drawn with replacement, no honest interval comes."""
_TAGS = {
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForPreTraining": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSeq2SeqLM": "text2text-generation",
}
_TAGS_OF_OBJECTIVES = {"replaced_token_detection": "feature-extraction"}
_USE = """```python
from transformers import {architecture}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/model")
model = {architecture}.from_pretrained("path/to/model")
```"""


def write_base_card(run: RunDirectory) -> None:
    """Write the card of a finished pretraining into its model folder."""
    write_bytes(run.model / "README.md", render_base_card(run).encode())


def render_base_card(run: RunDirectory) -> str:
    """Return the card as Markdown with the front matter that model hubs read."""
    record = run.read_record()
    recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
    facts = json.loads((run.model / "pretraining.json").read_text(encoding="utf-8"))
    architecture = facts["architecture"]
    matter = {
        "library_name": "transformers",
        "pipeline_tag": _TAGS_OF_OBJECTIVES.get(facts["objective"], _TAGS[architecture]),
        "tags": ["graftlm", "pretraining"],
    }
    objective = facts["objective"].replace("_", " ")
    further = record["new_parameters"] != "all"
    tokens = f"{facts['corpus']['train']['tokens']:,} tokens"
    made = (
        f"trained further with GraftLM {facts['graftlm_version']} on a corpus of {tokens}"
        if further
        else f"pretrained with GraftLM {facts['graftlm_version']} on {tokens}"
    )
    knows = (
        "What it has learnt since its base model is of its corpus alone, and it may have forgotten of what that knew."
        if further
        else "It knows its corpus and nothing else: other languages, times and kinds of text are strange to it."
    )
    parts = [
        "---", yaml.safe_dump(matter, sort_keys=False).rstrip(), "---",
        f"# Base model: {recipe['base']}, {objective}", "",
        f"{record['parameters'] / 1e6:.1f} million parameters, {made}.", "",
        "## How well it says held-out text", "", *_scores(run, facts["objective"]), "",
        *_curve(run),
        "## How to use it", "", "With GraftLM: `graft finetune rows.csv base=path/to/model`. With plain transformers:",
        "", _USE.format(architecture=architecture), "",
        "## How it was made", "", *_making(record, recipe, facts), "",
        "## Limits", "",
        f"- {knows}",
        "- Check the licence of the corpus before sharing it.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _scores(run: RunDirectory, objective: str) -> list[str]:
    lines: list[str] = []
    for name, of in (("held_out", "held-out text of the corpus"), ("general_text", "other text")):
        if run.evaluation(name).exists():
            evaluation = read_evaluation(run, name)
            documents = evaluation["scores"]["rows"]
            few = ", so few that the intervals are too narrow" if documents < FEW_DOCUMENTS else ""
            said = f"Over {counted(documents, 'document')} of {of}{few}; loss in nats."
            lines += [metric_table(evaluation), "", said, ""]
    if not lines:
        return ["Nothing was held out, so nothing is known."]
    if objective == "replaced_token_detection":
        lines.append(
            "The loss is what was minimised: that of the generator, and many times that of telling what is replaced. "
            "Perplexity and masked accuracy are of the generator, which lies beside this folder, in "
            "generator/ of the run."
        )
    if any("| change |" in line for line in lines):
        lines.append(
            "Before: the base model that was trained further; change: from it, on the same documents."
        )
    return lines


def _curve(run: RunDirectory) -> list[str]:
    """Return how the loss fell: of the steps since the row before, and on held-out text."""
    lines = ["| step | tokens | loss, training | loss, held-out |", "|---:|---:|---:|---:|"]
    tokens, losses = 0, list[float]()
    for line in run.steps.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "validation" not in entry:
            tokens += entry["tokens"]
            losses.append(entry["loss"])
            continue
        mean = f"{sum(losses) / len(losses):.3f}" if losses else "-"
        lines.append(f"| {entry['step']:,} | {tokens:,} | {mean} | {entry['validation']['loss']:.3f} |")
        losses.clear()
    return ["### How the loss fell", "", *lines, ""] if len(lines) > 2 else []


def _making(record: dict[str, Any], recipe: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    training = recipe["training"]
    proof = record["proof"]
    tokenizer = [
        f"- {name}: {facts['tokens_per_word']:.2f} tokens per word, {facts['bytes_per_token']:.2f} bytes per token, "
        f"{facts['unknown_share']:.2%} unknown, on the beginning of the corpus"
        for name, facts in record["tokenizer"].items()
    ]
    return [
        f"- corpus: {facts['corpus']['train']['documents']:,} documents, fingerprint `{facts['identity']['corpus']}`",
        *tokenizer,
        *_changed(record, recipe),
        f"- {record['steps']:,} steps of about {training['batch_tokens']:,} tokens, at most "
        f"{training['max_length_tokens']} at once; {record['optimizer']}, learning rate "
        f"{record['learning_rate']:g}, {training['schedule']} schedule, seed {recipe['seed']}",
        f"- {record['training_seconds'] / 3600:.2f} hours on {record['device']}, {_workers(record)}",
        "- proved: a fresh process reloaded it and agreed "
        f"(largest difference of a loss {proof['largest_difference']:.1e} nats)"
        if proof["done"]
        else "- NOT proved: no fresh process has reloaded it",
        "- the complete recipe is in `recipe.yaml`",
    ]


def _changed(record: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    """Return what was done to a base model that was trained further."""
    lines: list[str] = []
    if added := record.get("added_tokens"):
        lines.append(f"- {counted(added, 'token')} of the corpus added to the tokenizer of the base model")
    strategy = recipe["strategy"]
    if strategy["name"] != "full":
        options = ", ".join(f"{key} {value}" for key, value in strategy.items() if key != "name")
        lines.append(f"- strategy {strategy['name']}: {options}")
    return lines


def _workers(record: dict[str, Any]) -> str:
    threads = counted(record["machine"]["threads"], "thread")
    return threads if record["processes"] == 1 else f"{record['processes']} processes of {threads} each"
