"""What a run depends on, and what differs when somebody tries to continue it."""

from __future__ import annotations

from typing import Any

from graftlm.preparation import Prepared
from graftlm.recipe import Recipe

# Keys that change where or how often, never what: they may differ on resume.
_FREE = ("data.path", "data.validation", "data.test", "training.checkpoint_steps", "training.device")


def identity(recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Return everything that decides the numbers of a run: recipe, rows, labels, base model and tokenizer."""
    return {
        "recipe": recipe.dump(),
        "data": prepared.dataset.fingerprints(),
        "labels": list(prepared.learnt.labels),
        "base": prepared.base.fingerprint,
    }


def describe_changes(before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
    """Return one sentence per difference; ``training.epochs`` may differ when extending."""
    free = {*_FREE, *(("training.epochs",) if extending else ())}
    changes = [
        f"{key}: was {_show(old)}, now {_show(new)}"
        for key, old, new in _differences(before["recipe"], now["recipe"], "")
        if key not in free
    ]
    for split in sorted({*before["data"], *now["data"]}):
        if before["data"].get(split) != now["data"].get(split):
            changes.append(f"data: the rows of {split} are not the same")
    if before["labels"] != now["labels"]:
        changes.append(f"labels: was {before['labels']}, now {now['labels']}")
    if before["base"] != now["base"]:
        changes.append("base: the files of the base model or its tokenizer are not the same")
    return changes


def _differences(before: Any, now: Any, prefix: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted({*before, *now})
            for difference in _differences(before.get(key), now.get(key), f"{prefix}{key}.")
        ]
    return [(prefix.removesuffix("."), before, now)] if before != now else []


def _show(value: Any) -> str:
    return "unset" if value is None else repr(value)
