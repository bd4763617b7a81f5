"""``model/README.md``: the model card, made from the run directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from graftlm.data.benchmark_reading import held_out_as
from graftlm.data.roles import INPUT_KINDS, Role
from graftlm.models.adapters import holds_adapter
from graftlm.models.artefact import ArtefactFacts, read_facts
from graftlm.models.spaced_words import need_spaces
from graftlm.predictor import learnt_of, task_of
from graftlm.reports.figures import headline_sentence, label_table, metric_table, read_evaluation
from graftlm.rundir import RunDirectory, write_bytes
from graftlm.scoring.scores import Scores
from graftlm.tasks._task import Learnt, Task

_USE = """```python
from transformers import {architecture}, AutoTokenizer
import torch

tokenizer = AutoTokenizer.from_pretrained("path/to/model")
model = {architecture}.from_pretrained("path/to/model").eval()
{call}
{usage}
```"""
# The same where the folder holds an adapter and its head: peft puts them onto the base model.
_USE_ADAPTER = """```python
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, {architecture}, AutoTokenizer{more}
import torch

tokenizer = AutoTokenizer.from_pretrained("path/to/model")
adapter = PeftConfig.from_pretrained("path/to/model")
model = {architecture}.from_pretrained(
    adapter.base_model_name_or_path, revision=adapter.revision,
    config=AutoConfig.from_pretrained("path/to/model"), ignore_mismatched_sizes=True,
)
{settings}model = PeftModel.from_pretrained(model, "path/to/model").eval()
{call}
{usage}
```"""
_WRITING = {
    "more": ", GenerationConfig",
    "settings": 'model.generation_config = GenerationConfig.from_pretrained("path/to/model")\n',
}
_CALL = """\
batch = tokenizer({texts}, truncation=True, max_length={limit}, padding=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**batch).logits"""
# Heads that are called in another way; `Task.usage` says how.
_CALLS = {
    "AutoModelForQuestionAnswering": """\
question, context, limit = "your question", "your context", {limit}""",
    "AutoModelForSeq2SeqLM": 'source, limit = "your source", {limit}',
    "AutoModelForCausalLM": 'source, limit = "your source", {limit}',
}
_CHAT = """\
import re

messages = [{"role": "user", "content": "your message"}]"""


def write_model_card(run: RunDirectory) -> None:
    """Write the card of a finished run into its model folder."""
    write_bytes(run.model / "README.md", render_model_card(run).encode())


def render_model_card(run: RunDirectory) -> str:
    """Return the card as Markdown with the front matter that model hubs read."""
    record = run.read_record()
    facts = read_facts(run.model)
    recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
    headline = record.get("headline")
    evaluation = read_evaluation(run, headline) if headline else None
    task, learnt, adapter = task_of(facts, run.model), learnt_of(facts), holds_adapter(run.model)
    rows_of = _data_set(recipe["data"], record["data"]["origin"], headline)
    matter = yaml.safe_dump(
        _front_matter(facts, task, evaluation, rows_of, adapter), sort_keys=False, allow_unicode=True
    )
    count = f": {len(facts.labels)} labels" if facts.labels else ""
    made = "An adapter with its head, trained on" if adapter else "Fine-tuned from"
    parts = [
        "---", matter.rstrip(), "---",
        f"# {task.name.replace('_', ' ').capitalize()}{count}", "",
        f"{made} `{facts.base['name']}` with GraftLM {facts.graftlm_version}. {task.describe(learnt)}", "",
        "## How well it does", "",
    ]  # fmt: skip
    if evaluation is None:
        parts += ["No rows were held out, so nothing is known about how well it does.", ""]
    else:
        parts += [f"{headline_sentence(evaluation)}.", "", metric_table(evaluation), ""]
        if facts.labels:
            parts += [label_table(evaluation), ""]
    rows = ", ".join(f"{count} {name}" for name, count in record["data"]["rows"].items())
    prints = ", ".join(f"{name} `{value}`" for name, value in facts.data.items())
    parts += [
        "## How to use it", "", f"With plain {'transformers and peft' if adapter else 'transformers'}:", "",
        _snippet(facts, task, learnt, adapter, _spaced(run.model)), "",
        "With GraftLM: `graft predict path/to/run rows.csv`, or `graftlm.Predictor.open(\"path/to/model\")`.",
        "", "## How it was made", "",
        f"- rows: {rows}; fingerprints: {prints}",
        *(f"- {sentence}" for sentence in record["data"]["decisions"]),
        _lengths(facts, task, record["data"]["truncated"]),
        f"- the complete recipe is in `recipe.yaml`: {recipe['strategy']['name']} fine-tuning, learning rate "
        f"{recipe['training']['learning_rate'] or record['learning_rate']:g}, "
        f"{recipe['training']['batch_size']} texts a step, {record['steps']} steps "
        f"(weights of step {record['kept_step']}), seed {recipe['seed']}", "",
        "## Limits", "",
        *(f"- {limit}" for limit in task.limits),
        "- The interval covers the sampling of the evaluated rows, not other sources, times or languages.",
        f"- Check the licence of `{facts.base['name']}` and of your rows before sharing it.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _example(role: Role, spaced: bool) -> str:
    if role.kind == "words":
        # Such a tokenizer knows a word by the space before it.
        words = '[[" your", " words"]]' if spaced else '[["your", "words"]]'
        return f"{words}, is_split_into_words=True"
    return f'["your {role.name.replace("_", " ")}"]'


def _spaced(model: Path) -> bool:
    file = model / "tokenizer.json"
    return file.exists() and need_spaces(Tokenizer.from_file(str(file)))


def _snippet(facts: ArtefactFacts, task: Task, learnt: Learnt, adapter: bool, spaced: bool) -> str:
    inputs = [role for role in task.roles if role.kind in INPUT_KINDS and role.name in facts.roles]
    architecture = facts.architecture or task.architectures[0]
    if any(role.kind == "messages" for role in inputs):
        call = _CHAT
    else:
        call = _CALLS.get(architecture, _CALL).format(
            texts=", ".join(_example(role, spaced) for role in inputs), limit=facts.max_length_tokens
        )
    usage = task.usage(learnt, architecture)
    if not adapter:
        return _USE.format(architecture=architecture, call=call, usage=usage)
    writing = _WRITING if task.decoding is not None else dict.fromkeys(_WRITING, "")
    return _USE_ADAPTER.format(architecture=architecture, call=call, usage=usage, **writing)


def _lengths(facts: ArtefactFacts, task: Task, truncated: dict[str, int]) -> str:
    if task.answer_kind in ("spans", "tags", "answers"):
        windows = f"- texts beyond {facts.max_length_tokens} tokens are read in overlapping windows"
        return (
            windows
            if task.answer_kind == "answers"
            else f"{windows} by GraftLM; the lines above read the first one"
        )
    cut = sum(truncated.values())
    return f"- it reads at most {facts.max_length_tokens} tokens at once ({cut} of this run's texts were cut)"


def _data_set(data: dict[str, Any], origin: str, headline: str | None) -> dict[str, str]:
    """Return what the rows behind the headline are called: a benchmark where they are its held-out rows."""
    known = None
    if headline == "test" and data["test"] is None and data["path"]:
        known = held_out_as(data["path"], origin)
    return known or {"name": "own rows", "type": "custom", "split": str(headline)}


def _front_matter(
    facts: ArtefactFacts,
    task: Task,
    evaluation: dict[str, Any] | None,
    rows_of: dict[str, str],
    adapter: bool,
) -> dict[str, Any]:
    matter: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": task.pipeline_tag,
        "tags": ["graftlm", task.name],
    }
    if adapter:
        matter["library_name"] = "peft"
    if facts.base["revision"] is not None:  # from the hub; a local path is no name there
        matter["base_model"] = facts.base["name"]
    if evaluation is not None:
        scores = Scores.load(evaluation["scores"])
        matter["model-index"] = [
            {
                "name": task.name,
                "results": [
                    {
                        "task": {"type": task.pipeline_tag},
                        "dataset": rows_of,
                        "metrics": [{"type": scores.primary, "value": round(scores.headline.value, 4)}],
                    }
                ],
            }
        ]
    return matter
