"""``model/README.md``: the model card, made from the run directory alone."""

from __future__ import annotations

import json
from typing import Any

import yaml

from graftlm.reports.figures import headline_sentence, label_table, metric_table, read_evaluation
from graftlm.rundir import RunDirectory, write_bytes
from graftlm.scoring.scores import Scores

_USE = """```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import torch

tokenizer = AutoTokenizer.from_pretrained("path/to/model")
model = AutoModelForSequenceClassification.from_pretrained("path/to/model").eval()
batch = tokenizer(["your text"], truncation=True, max_length={limit}, padding=True, return_tensors="pt")
with torch.inference_mode():
    probabilities = model(**batch).logits.softmax(-1)[0]
print(model.config.id2label[int(probabilities.argmax())], float(probabilities.max()))
```"""


def write_model_card(run: RunDirectory) -> None:
    """Write the card of a finished run into its model folder."""
    write_bytes(run.model / "README.md", render_model_card(run).encode())


def render_model_card(run: RunDirectory) -> str:
    """Return the card as Markdown with the front matter that model hubs read."""
    record = run.read_record()
    facts = json.loads((run.model / "graftlm.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
    headline = record.get("headline")
    evaluation = read_evaluation(run, headline) if headline else None
    labels = ", ".join(f"`{label}`" for label in facts["labels"])
    parts = [
        "---", yaml.safe_dump(_front_matter(facts, evaluation), sort_keys=False, allow_unicode=True).rstrip(), "---",
        f"# {facts['task']['name'].replace('_', ' ').capitalize()}: {len(facts['labels'])} labels", "",
        f"Fine-tuned from `{facts['base']['name']}` with GraftLM {facts['graftlm_version']}. "
        f"It gives each text one of: {labels}.", "",
        "## How well it does", "",
    ]  # fmt: skip
    if evaluation is None:
        parts += ["No rows were held out, so nothing is known about how well it does.", ""]
    else:
        parts += [
            f"{headline_sentence(evaluation)}.",
            "",
            metric_table(evaluation),
            "",
            label_table(evaluation),
            "",
        ]
    rows = ", ".join(f"{count} {name}" for name, count in record["data"]["rows"].items())
    prints = ", ".join(f"{name} `{value}`" for name, value in facts["data"].items())
    parts += [
        "## How to use it", "", "With plain transformers:", "", _USE.format(limit=facts["max_length_tokens"]), "",
        "With GraftLM: `graft predict path/to/run texts.csv`, or "
        "`graftlm.Predictor.open(\"path/to/model\")([\"your text\"])`.",
        "", "## How it was made", "",
        f"- rows: {rows}; fingerprints: {prints}",
        *(f"- {sentence}" for sentence in record["data"]["decisions"]),
        f"- texts are cut at {facts['max_length_tokens']} tokens"
        f" ({sum(record['data']['truncated'].values())} of this run's texts were)",
        f"- the complete recipe is in `recipe.yaml`: {recipe['strategy']['name']} fine-tuning, learning rate "
        f"{recipe['training']['learning_rate']:g}, {recipe['training']['batch_size']} texts a step, "
        f"{record['steps']} steps (weights of step {record['kept_step']}), seed {recipe['seed']}", "",
        "## Limits", "",
        "- It always answers with one of its labels, also for texts that fit none of them.",
        "- The interval covers the sampling of the evaluated rows, not other sources, times or languages.",
        "- Probabilities are those of the softmax; they were not calibrated.",
        f"- Check the licence of `{facts['base']['name']}` and of your rows before sharing it.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _front_matter(facts: dict[str, Any], evaluation: dict[str, Any] | None) -> dict[str, Any]:
    matter: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["graftlm", facts["task"]["name"]],
    }
    if facts["base"]["revision"] is not None:  # from the hub; a local path is no name there
        matter["base_model"] = facts["base"]["name"]
    if evaluation is not None:
        scores = Scores.load(evaluation["scores"])
        matter["model-index"] = [
            {
                "name": facts["task"]["name"],
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": "own rows", "type": "custom", "split": evaluation["split"]},
                        "metrics": [{"type": scores.primary, "value": round(scores.headline.value, 4)}],
                    }
                ],
            }
        ]
    return matter
