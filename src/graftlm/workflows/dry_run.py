"""``--dry-run``: the complete recipe and what the run will cost, measured on a few real steps."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

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


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Args:
        recipe: complete, every default written out.
        sentences: what was decided, and what the run will cost, for a reader.
        costs: the same in numbers: steps, epochs, tokens, ``seconds`` of training, ``tokens_per_second``,
            ``parameters`` and those that move, ``state_bytes`` of weights, gradients and optimiser.
    """

    recipe: Recipe | PretrainingRecipe
    sentences: Sequence[str]
    costs: Mapping[str, Any]

    def to_yaml(self) -> str:
        """Return the recipe as a YAML file's text, the sentences as comments above it."""
        return "".join(f"# {line}\n" for line in self.sentences) + self.recipe.to_yaml()

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        found = {"recipe": self.recipe.dump(), "costs": dict(self.costs), "said": list(self.sentences)}
        return json.dumps(found, ensure_ascii=False)


def dry_run(recipe: Recipe, data: object = None) -> DryRun:
    """Return the complete recipe, and what is known beforehand of rows, steps, parameters, memory and time.

    A few steps are really taken, on a model that is then thrown away; nothing is written.
    """
    accelerator = open_accelerator(recipe.training.device)
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    subject = FineTuning(recipe, accelerator, autocast, Silent(), data)
    train, prepared = subject.examples, subject.prepared
    epochs = resolve_epochs(recipe, len(train))
    tokens = round(int(train.lengths.sum()) * epochs)
    held_out = sum(int(each.lengths.sum()) for name, each in prepared.examples.items() if name != "train")
    measured, costs = _cost(subject, accelerator, tokens)
    sentences = [
        *prepared.dataset.decisions,
        *_labels(prepared.learnt.labels),
        f"{subject.plan.total_steps} steps ({epochs:g} passes over {len(train)} rows), {tokens:,} training tokens, "
        f"{held_out:,} held-out tokens",
        f"learning rate {resolve_learning_rate(recipe):g} at its peak, {recipe.training.batch_size} rows a step; "
        f"kept are the weights of the {'best validation' if recipe.training.keeps_best else 'last step'}",
        *measured,
    ]
    counts = {"epochs": epochs, "train_rows": len(train), "held_out_tokens": held_out}
    return DryRun(recipe, sentences, {**counts, **costs})


def dry_run_pretraining(recipe: PretrainingRecipe, progress: Progress | None = None) -> DryRun:
    """Return the same for a pretraining.

    Tokenizer and tokens are really made, in a temporary folder: how long they take is in the answer.
    """
    accelerator = open_accelerator(recipe.training.device)
    autocast = resolve_precision(recipe.training.precision, accelerator.device)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subject = Pretraining(recipe, RunDirectory(Path(folder)), accelerator, autocast, progress or Silent())
        prepared = time.perf_counter() - began
        texts = {
            "train": subject.corpus.train,
            **{name: subject.judging[name].corpus for name in (HELD_OUT, GENERAL) if name in subject.judging},
        }
        tokens = round(int(subject.examples.in_pass(0).lengths.sum()) * recipe.training.epochs)
        measured, costs = _cost(subject, accelerator, tokens)
        sentences = [
            f"tokenizer with {len(subject.beginning.tokenizer):,} tokens",
            *(
                f"{name}: {facts['tokens_per_word']:.2f} tokens per word, {facts['unknown_share']:.2%} unknown"
                for name, facts in subject.tokenizer_report.items()
            ),
            *(
                f"{name}: {each.num_documents:,} documents, {each.num_tokens:,} tokens"
                for name, each in texts.items()
            ),
            f"{subject.plan.total_steps} steps ({recipe.training.epochs:g} passes), {tokens:,} training tokens, "
            "special ones included",
            f"{subject.optimizer_name}, learning rate {subject.learning_rate:g} at its peak",
            f"{prepared:,.1f} s for tokenizer and corpus",
            *measured,
        ]
        counts = {
            "epochs": recipe.training.epochs,
            "preparation_seconds": prepared,
            "documents": {name: each.num_documents for name, each in texts.items()},
            "tokens": {name: each.num_tokens for name, each in texts.items()},
        }
    return DryRun(recipe, sentences, {**counts, **costs})


def _labels(names: Sequence[str]) -> list[str]:
    more = " ..." if len(names) > 20 else ""
    return [f"{len(names)} labels: {', '.join(names[:20])}{more}"] if names else []


def _cost(subject: Subject, accelerator: Accelerator, total_tokens: int) -> tuple[list[str], dict[str, Any]]:
    """Take a few steps, and return what the whole run will take, in sentences and in numbers."""
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
    kept = [value for state in optimizer.state.values() for value in state.values()]
    moments = sum(value.nbytes for value in kept if isinstance(value, Tensor) and value.ndim)
    averages = moving if subject.averaging else 0
    state_bytes = 4 * (everything + moving + averages) + moments
    costs: dict[str, Any] = {
        "steps": subject.plan.total_steps, "training_tokens": total_tokens, "seconds": total_tokens / rate,
        "tokens_per_second": rate, "device": accelerator.device.type, "parameters": everything,
        "moving_parameters": moving, "state_bytes": state_bytes,
    }  # fmt: skip
    sentences = [
        f"{moving:,} of {everything:,} parameters move; weights, gradients and what the optimiser keeps take "
        f"{state_bytes / 2**20:,.0f} MiB, activations come on top",
        f"about {total_tokens / rate:,.0f} s of training on {accelerator.device.type} "
        f"({rate:,.0f} tokens/s over {max(1, timed - 1)} steps, measured in {time.perf_counter() - began:.1f} s), "
        "validation and proof not included",
    ]
    return sentences, costs
