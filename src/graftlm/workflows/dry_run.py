"""``--dry-run``: the complete recipe and what the run will cost, measured on a few real steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from graftlm.fine_tuning import FineTuning
from graftlm.models.flat.probe import make_flat
from graftlm.models.gradient_checkpointing import checkpoint_layers
from graftlm.preparation import resolve_epochs, resolve_learning_rate
from graftlm.pretraining import GENERAL, HELD_OUT, Pretraining
from graftlm.pretraining_recipe import PretrainingRecipe
from graftlm.progress import Progress, Silent
from graftlm.recipe import Recipe
from graftlm.rundir import RunDirectory
from graftlm.subject import Subject
from graftlm.training.devices import open_accelerator, resolve_precision
from graftlm.training.loop import fit
from graftlm.training.memory import place

# The first step pays for allocations; the rest tell the rate.
_TIMED_STEPS = 4


def dry_run(recipe: Recipe, data: object = None) -> str:
    """Return the complete recipe as YAML, with comment lines on rows, steps, parameters, memory and time.

    A few steps are really taken, on a model that is then thrown away; nothing is written.
    """
    accelerator = open_accelerator(recipe.training.device)
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    subject = FineTuning(recipe, accelerator, autocast, Silent(), data)
    train, prepared = subject.examples, subject.prepared
    epochs = resolve_epochs(recipe, len(train))
    tokens = int(train.lengths.sum()) * epochs
    held_out = sum(int(each.lengths.sum()) for name, each in prepared.examples.items() if name != "train")
    comments = [
        *prepared.dataset.decisions,
        *_labels(prepared.learnt.labels),
        f"{subject.plan.total_steps} steps ({epochs:g} passes over {len(train)} rows), {tokens:,.0f} training tokens, "
        f"{held_out:,} held-out tokens",
        f"learning rate {resolve_learning_rate(recipe):g} at its peak, {recipe.training.batch_size} rows a step; "
        f"kept are the weights of the {'best validation' if recipe.training.keeps_best else 'last step'}",
        *_cost(subject, accelerator, tokens),
    ]
    return _commented(comments, recipe.to_yaml())


def dry_run_pretraining(recipe: PretrainingRecipe, progress: Progress | None = None) -> str:
    """Return the same for a pretraining.

    Tokenizer and tokens are really made, in a temporary folder: how long they take is in the answer.
    """
    accelerator = open_accelerator(recipe.training.device)
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subject = Pretraining(recipe, RunDirectory(Path(folder)), accelerator, autocast, progress or Silent())
        prepared = time.perf_counter() - began
        train = subject.corpus.train
        judged = {
            name: subject.judging[name].corpus for name in (HELD_OUT, GENERAL) if name in subject.judging
        }
        tokens = int(subject.examples.in_pass(0).lengths.sum()) * recipe.training.epochs
        comments = [
            f"tokenizer with {len(subject.beginning.tokenizer):,} tokens",
            *(
                f"{name}: {facts['tokens_per_word']:.2f} tokens per word, {facts['unknown_share']:.2%} unknown"
                for name, facts in subject.tokenizer_report.items()
            ),
            f"train: {train.num_documents:,} documents, {train.num_tokens:,} tokens",
            *(
                f"{name}: {each.num_documents:,} documents, {each.num_tokens:,} tokens"
                for name, each in judged.items()
            ),
            f"{subject.plan.total_steps} steps ({recipe.training.epochs:g} passes), {tokens:,.0f} training tokens, "
            "special ones included",
            f"learning rate {subject.learning_rate:g} at its peak",
            f"{prepared:,.1f} s for tokenizer and corpus",
            *_cost(subject, accelerator, tokens),
        ]
    return _commented(comments, recipe.to_yaml())


def _labels(names: Sequence[str]) -> list[str]:
    more = " ..." if len(names) > 20 else ""
    return [f"{len(names)} labels: {', '.join(names[:20])}{more}"] if names else []


def _cost(subject: Subject, accelerator: Accelerator, total_tokens: float) -> list[str]:
    """Take a few steps, and return what the whole run will take, in sentences."""
    model = subject.model
    place(model, accelerator.device)
    optimizer = subject.optimizer()
    if subject.options.execution == "auto":
        make_flat(model)
    if subject.options.gradient_checkpointing:
        checkpoint_layers(model)
    moving = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    everything = sum(parameter.numel() for parameter in model.parameters())
    began, timed = time.perf_counter(), 0
    tokens, seconds = 0, 0.0
    steps = fit(
        model, subject.examples, subject.loss(), optimizer, subject.plan, accelerator, forward=subject.forward
    )
    for step in steps:
        timed += 1
        if timed > 1 or subject.plan.total_steps == 1:
            tokens, seconds = tokens + step.tokens, seconds + step.seconds
        if timed == _TIMED_STEPS:
            break
    rate = tokens / seconds
    return [
        f"{moving:,} of {everything:,} parameters move; weights, gradients and optimiser state take "
        f"{(4 * everything + 12 * moving) / 2**20:,.0f} MiB, activations come on top",
        f"about {total_tokens / rate:,.0f} s of training on {accelerator.device.type} "
        f"({rate:,.0f} tokens/s over {max(1, timed - 1)} steps, measured in {time.perf_counter() - began:.1f} s), "
        "validation and proof not included",
    ]


def _commented(comments: Sequence[str], recipe: str) -> str:
    return "".join(f"# {line}\n" for line in comments) + recipe
