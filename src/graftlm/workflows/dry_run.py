"""``graft finetune --dry-run``: the complete recipe and what the run will cost, measured on a few real steps."""

from __future__ import annotations

import time
from collections.abc import Sequence

from graftlm.preparation import (
    build_model,
    build_objective,
    build_strategy,
    make_plan,
    prepare,
    resolve_epochs,
)
from graftlm.progress import Silent
from graftlm.recipe import Recipe
from graftlm.training.devices import open_accelerator, resolve_precision
from graftlm.training.loop import fit
from graftlm.training.memory import place

# The first step pays for allocations; the rest tell the rate.
_TIMED_STEPS = 4


def _labels(names: Sequence[str]) -> list[str]:
    more = " ..." if len(names) > 20 else ""
    return [f"{len(names)} labels: {', '.join(names[:20])}{more}"] if names else []


def dry_run(recipe: Recipe, data: object = None) -> str:
    """Return the complete recipe as YAML, with comment lines on rows, steps, parameters, memory and time.

    A few steps are really taken, on a model that is then thrown away; nothing is written.
    """
    accelerator = open_accelerator(recipe.training.device)
    prepared = prepare(recipe, data, Silent())
    train = prepared.examples["train"]
    plan = make_plan(recipe, len(train), resolve_precision(recipe.training.precision, accelerator.device))
    model = build_model(recipe, prepared, Silent())
    place(model, accelerator.device)
    optimizer = build_strategy(recipe, model)
    moving = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    everything = sum(parameter.numel() for parameter in model.parameters())
    began, timed = time.perf_counter(), 0
    tokens, seconds = 0, 0.0
    for step in fit(model, train, build_objective(recipe, prepared), optimizer, plan, accelerator):
        timed += 1
        if timed > 1 or plan.total_steps == 1:
            tokens, seconds = tokens + step.tokens, seconds + step.seconds
        if timed == _TIMED_STEPS:
            break
    rate = tokens / seconds
    epochs = resolve_epochs(recipe, len(train))
    total_tokens = int(train.lengths.sum()) * epochs
    held_out = sum(
        int(examples.lengths.sum()) for name, examples in prepared.examples.items() if name != "train"
    )
    comments = [
        *prepared.dataset.decisions,
        *_labels(prepared.learnt.labels),
        f"{plan.total_steps} steps ({epochs:g} passes over {len(train)} rows), {total_tokens:,.0f} training tokens, "
        f"{held_out:,} held-out tokens",
        f"{moving:,} of {everything:,} parameters move; weights, gradients and optimiser state take "
        f"{(4 * everything + 12 * moving) / 2**20:,.0f} MiB, activations come on top",
        f"about {total_tokens / rate:,.0f} s of training on {accelerator.device.type} "
        f"({rate:,.0f} tokens/s over {max(1, timed - 1)} steps, measured in {time.perf_counter() - began:.1f} s), "
        "validation and proof not included",
    ]
    return "".join(f"# {line}\n" for line in comments) + recipe.to_yaml()
