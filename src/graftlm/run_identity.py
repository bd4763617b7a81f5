"""What a run depends on, and what differs when somebody tries to continue it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graftlm.data.features import Features
from graftlm.data.ragged import Ragged
from graftlm.preparation import Prepared, resolve_learning_rate
from graftlm.recipe import Recipe, load_recipe
from graftlm.settings import Settings
from graftlm.tasks._task import SPEAKING

# Keys that change where or how often, never what: they may differ on resume.
_FREE = (
    "data.path", "data.validation", "data.test", "training.checkpoint_steps", "training.device",
    "training.gradient_checkpointing", "training.micro_batch", "evaluation.batch_tokens",
    "training.learning_rate",  # what it comes to is compared
)  # fmt: skip

_RATE = "learning_rate"


def identity(recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Return everything that decides the numbers of a run: recipe, rows, labels, base model and tokenizer."""
    return {
        "recipe": recipe.dump(),
        "data": prepared.dataset.fingerprints(),
        "labels": list(prepared.learnt.labels),
        "base": prepared.base.fingerprint,
        "tokens": {name: _tokens(features) for name, features in prepared.features.items()},
        SPEAKING: prepared.encoder.speaking_token,
        _RATE: resolve_learning_rate(recipe),
    }


def _tokens(features: Features) -> str:
    """Return a sha256 of what the model sees: templates and tokenizers may change it without any file changing."""
    digest = hashlib.sha256()
    parts: list[Sequence[Sequence[int]] | Sequence[NDArray[np.int64]]] = [
        features.inputs[name] for name in sorted(features.inputs)
    ]
    if features.writing is not None:
        parts += [features.writing.targets, [features.writing.prompts or ()]]
    for examples in parts:
        rows = examples if isinstance(examples, Ragged) else Ragged.of(examples)
        digest.update(rows.starts.tobytes())
        digest.update(rows.values.tobytes())
    return digest.hexdigest()


def describe_changes(before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
    """Return one sentence per difference; ``training.epochs`` may differ when extending."""
    free = {*_FREE, *(("training.epochs",) if extending else ())}
    # What a recipe of an earlier version does not say was then what is now its default.
    old = load_recipe(start=Settings(before["recipe"]))
    changes = [change for key, change in differences(old.dump(), now["recipe"]) if key not in free]
    # Before version 0.2 no base model had a rate of its own.
    rate = before.get(_RATE) or old.training.learning_rate or float(cast("Any", old.strategy).learning_rate)
    if rate != now[_RATE]:
        changes.append(
            f"training.learning_rate: was {rate:g}, now {now[_RATE]:g}; to go on, write the former into recipe.yaml of "
            "the run"
        )
    kept = {split for split, rows in now["data"].items() if before["data"].get(split) == rows}
    for split in sorted({*before["data"], *now["data"]} - kept):
        changes.append(f"data: the rows of {split} are not the same")
    # Checkpoints of version 0.1.0 say nothing about tokens.
    tokens = before.get("tokens", now["tokens"])
    if any(tokens.get(split) != now["tokens"].get(split) for split in kept):
        changes.append("tokens: the same rows are other tokens, by another tokenizer or chat template")
    # Before version 0.2 it was always the first.
    if (spoke := before.get(SPEAKING, "first")) != now[SPEAKING]:
        changes.append(
            f"tokens: the {spoke} one of each word answered for it, now the {now[SPEAKING]} one does"
        )
    if before["labels"] != now["labels"]:
        changes.append(f"labels: was {before['labels']}, now {now['labels']}")
    if before["base"] != now["base"]:
        changes.append("base: the files of the base model or its tokenizer are not the same")
    return changes


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the dotted keys in which two dumped recipes differ, each with a sentence about it."""
    return [
        (key, f"{key}: was {_show(old)}, now {_show(new)}") for key, old, new in _differences(before, now, "")
    ]


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
