"""The card of an exported folder: that of the model, with another way to use it and how the export compares."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml

from graftlm.data.roles import INPUT_KINDS
from graftlm.models.artefact import read_facts
from graftlm.predictor import task_of
from graftlm.reports.figures import change, figure, interval
from graftlm.scoring.scores import Score

_USE, _MADE = "## How to use it", "## How it was made"
_SNIPPET = """```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/folder")
session = onnxruntime.InferenceSession("path/to/folder/{file}")
batch = tokenizer({texts}, max_length={limit}, padding=True, return_tensors="np")
outputs = session.run(None, {{each.name: batch[each.name] for each in session.get_inputs()}})
print(dict(zip((each.name for each in session.get_outputs()), outputs)))
```"""


def parity_sentence(found: dict[str, Any]) -> str:
    """Return how an exported network compares with the trained one, in a line."""
    name = found["metric"]
    alike = found["decided_alike"]
    decided = "" if alike is None else f"{alike:.2%} of {found['rows']:,} rows decided alike; "
    return (
        f"{decided}{name} {figure(found['exported']['value'], name)}, trained "
        f"{figure(found['trained']['value'], name)}, change {change(Score(**found['change']))}; outputs differ by "
        f"{found['largest_difference']:.1g} at most, {found['mean_difference']:.1g} in the mean"
        + ("; SIGNIFICANTLY WORSE" if found["significant_loss"] else "")
    )


def size_of(network: dict[str, Any]) -> str:
    """Return how large an exported network is, and how much of it is in int8."""
    share = f", {network['int8_share']:.0%} of its weights in int8" if "int8_share" in network else ""
    return f"{network['bytes'] / 1e6:.1f} MB{share}"


def render_export_card(source: Path, folder: Path, report: dict[str, Any]) -> str:
    """Return the card as Markdown.

    Args:
        source: model folder of the run, whose card this one follows where there is one.
        folder: of the export, its facts written.
        report: of the export.
    """
    card = source / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    before, _, rest = text.partition(f"{_USE}\n")
    _, _, after = rest.partition(f"{_MADE}\n")
    parts = [_for_onnx(before) if before else "# Exported network\n", _usage(folder), "", _parity(report), ""]
    if after:
        parts += [f"{_MADE}\n{after}"]
    return "\n".join(parts)


def _for_onnx(text: str) -> str:
    """Return the beginning of a card whose front matter says what kind of folder this is; users may have edited it."""
    values, rest = _front_matter(text)
    values["library_name"] = "onnx"
    tags = values.get("tags") or []
    values["tags"] = [*(tags if isinstance(tags, list) else [tags]), "onnx"]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n{rest}"


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Return the values at the head of a card and what follows; none and the whole text where there is no such head."""
    if text.startswith("---\n") and text.count("\n---\n"):
        matter, _, rest = text.removeprefix("---\n").partition("\n---\n")
        with contextlib.suppress(yaml.YAMLError):
            if isinstance(values := yaml.safe_load(matter), dict):
                return values, rest
    return {}, text


def _usage(folder: Path) -> str:
    facts = read_facts(folder)
    task = task_of(facts, folder)
    inputs = [role for role in task.roles if role.kind in INPUT_KINDS and role.name in facts.roles]
    words = any(role.kind == "words" for role in inputs)
    examples = ", ".join(f'["your {role.name.replace("_", " ")}"]' for role in inputs)
    texts = '[["your", "words"]], is_split_into_words=True' if words else examples
    cut = "truncation=" + ('"only_second"' if task.answer_kind == "answers" else "True")
    snippet = _SNIPPET.format(file="onnx/model.onnx", texts=f"{texts}, {cut}", limit=facts.max_length_tokens)
    return "\n".join([
        _USE, "", "With GraftLM, which also reads long texts and follows the rules of the model:",
        '`graft predict path/to/folder rows.csv`, or `graftlm.Predictor.open("path/to/folder")`.', "",
        "With ONNX Runtime alone, outputs as they are; `config.json` names the labels:", "", snippet,
    ])  # fmt: skip


def _parity(report: dict[str, Any]) -> str:
    lines = [
        "## How it compares with the trained network", "",
        f"On rows of {report['compared_on']['split']}; the change is paired, row by row, with its 95 % interval.", "",
        "| network | size, MB | metric | trained | exported | change | decided alike | largest difference of outputs |",
        "|---|---:|---|---|---|---|---:|---:|",
    ]  # fmt: skip
    for precision, each in report["networks"].items():
        found = each["parity"]
        name = found["metric"]
        values = [interval(Score(**found[key]), name) for key in ("trained", "exported")]
        alike = (
            "-" if found["decided_alike"] is None else f"{found['decided_alike']:.2%} of {found['rows']:,}"
        )
        lines.append(
            f"| {precision} | {each['bytes'] / 1e6:.1f} | {name} | {values[0]} | {values[1]} "
            f"| {change(Score(**found['change']))} | {alike} | {found['largest_difference']:.1g} |"
        )
    shares = [size_of(each) for each in report["networks"].values() if "int8_share" in each]
    lines += [f"\nThe network in int8: {share}." for share in shares]
    worse = [name for name, each in report["networks"].items() if each["parity"]["significant_loss"]]
    lines += [f"\n**The network in {name} is significantly worse than the trained one.**" for name in worse]
    return "\n".join(lines)
