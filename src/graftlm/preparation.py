"""From a recipe to everything a training needs, refusing what cannot be trusted on the way."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from graftlm.checking.finding import Finding
from graftlm.checking.findings import examine_rows, require_clean
from graftlm.data.dataset import Dataset, Split
from graftlm.data.features import Features
from graftlm.data.places import counted
from graftlm.data.roles import INPUT_KINDS, WORDS, present
from graftlm.data.words import as_text, words_of
from graftlm.data.writing import Decoding
from graftlm.errors import ConfigurationError
from graftlm.models.base_model import (
    length_limit,
    load_config,
    load_model,
    load_tokenizer,
    model_class_of,
)
from graftlm.models.chat import date_note
from graftlm.models.decoding import make_encoder, set_decoding
from graftlm.models.encoder import TextEncoder
from graftlm.models.families import reads_backwards_only
from graftlm.models.locating import BaseFiles, locate, suited_learning_rate
from graftlm.models.padding import padding_note
from graftlm.objectives._objective import Loss
from graftlm.progress import Progress
from graftlm.recipe import Recipe
from graftlm.tasks._task import SPEAKING, Learnt, Task
from graftlm.tokenising import Watched, encoded
from graftlm.training.batching import Examples
from graftlm.training.loop import Plan
from graftlm.training.optimisation import Stepping, build_optimizer
from graftlm.training.order import Epochs, steps_per_epoch

# Small data sets are trained longer, not less: about this many steps, between 3 and 20 passes
# (Mosbach et al. 2021 train small sets for 20 epochs; measured here in docs/log.md).
SMALL_DATA_STEPS = 1500
FEWEST_EPOCHS, MOST_EPOCHS = 3, 20


@dataclass(frozen=True)
class Prepared:
    """Data, tokens and base model of a run, before any weight moves.

    Args:
        dataset: the splits.
        findings: what the data doctor noticed; none of them an error.
        learnt: labels and rule.
        base: the files of the base model.
        config: its configuration, read as hostile input.
        encoder: its tokenizer at the length limit of the run.
        features: split name -> tokenised rows.
        examples: split name -> the same with targets, as the loop wants them.
        truncated: split name -> positions of cut texts.
    """

    dataset: Dataset
    findings: list[Finding]
    learnt: Learnt
    base: BaseFiles
    config: PreTrainedConfig
    encoder: TextEncoder
    features: dict[str, Features]
    examples: dict[str, Examples]
    truncated: dict[str, list[int]]


def read_and_check(recipe: Recipe, data: object, progress: Progress) -> tuple[Dataset, list[Finding]]:
    """Read, split and check the rows; nothing here loads torch's models or touches weights.

    Raises:
        DataError: with every reason for which these rows cannot be trained on.
    """
    progress.stage("reading the data")
    dataset, findings = examine_rows(recipe, data)
    require_clean(findings)
    for sentence in dataset.decisions:
        progress.say(sentence)
    for finding in findings:
        if finding.severity == "warning":
            progress.warn(finding.message)
    return dataset, findings


def prepare(recipe: Recipe, data: object, progress: Progress) -> Prepared:
    """Do everything that precedes the model: rows, labels, tokenizer, token ids."""
    dataset, findings = read_and_check(recipe, data, progress)
    task: Any = recipe.task
    learnt = task.learn(dataset.splits["train"])
    progress.stage("tokenising")
    base, config, encoder = open_encoder(recipe)
    if encoder.speaking_token != "first":
        learnt = replace(learnt, rule={**learnt.rule, SPEAKING: encoder.speaking_token})
    for note in (padding_note(encoder.tokenizer), date_note(encoder.tokenizer)):
        if note:
            progress.say(note)
    features: dict[str, Features] = {}
    examples: dict[str, Examples] = {}
    watched = Watched(progress, sum(map(len, dataset.splits.values())))
    for name, split in dataset.splits.items():
        features[name] = encoded(task, split, encoder, watched.add)
        targets = task.targets(split, features[name], learnt)
        examples[name] = Examples.of(features[name], targets, encoder.padding, encoder.tokenizer.padding_side)
        _say_what_became_of_texts(task, split, encoder, features[name], progress)
    truncated = {name: each.truncated_rows for name, each in features.items()}
    return Prepared(dataset, findings, learnt, base, config, encoder, features, examples, truncated)


def open_encoder(recipe: Recipe) -> tuple[BaseFiles, PreTrainedConfig, TextEncoder]:
    """Return the files of the base model, its configuration, and its tokenizer as the task needs it.

    Raises:
        ConfigurationError: the task asks for more tokens than the model reads.
    """
    task: Any = recipe.task
    decoding: Decoding | None = task.decoding
    kinds = {role.kind for role in task.roles}
    base = locate(recipe.base)
    config = load_config(base)
    model_class_of(task.architectures, config, base.folder)  # before anything else that this model cannot do
    tokenizer = load_tokenizer(base, words="words" in kinds, positions=decoding is None)
    limit = length_limit(tokenizer, config)
    if task.max_length_tokens is not None and task.max_length_tokens > limit:
        raise ConfigurationError(
            f"{task.max_length_tokens} tokens exceed the limit of {base.name}, which is {limit}",
            where="task.max_length_tokens",
        )
    length = task.max_length_tokens or min(limit, task.default_length_tokens)
    return base, config, make_encoder(
        tokenizer, base, config, length, decoding, "messages" in kinds,
        # Before its last token nothing has read a word whole, where every token reads those before it alone.
        "last" if "words" in kinds and reads_backwards_only(config) else "first",
    )  # fmt: skip


def _say_what_became_of_texts(
    task: Task, split: Split, encoder: TextEncoder, features: Features, progress: Progress
) -> None:
    if truncated := features.truncated_rows:
        talks = any(role.kind == "messages" for role in task.roles)
        noun, lost = ("conversations", "lost their oldest turns") if talks else ("texts", "were cut")
        progress.warn(
            f"{len(truncated)} of {len(split)} {noun} of {split.name} do not fit into "
            f"{encoder.max_length_tokens} tokens and {lost}, first {split.row_ids[truncated[0]]}"
        )
    if features.writing is not None and (cut := features.writing.cut_rows):
        progress.warn(
            f"the target of {len(cut)} of {counted(len(split), 'row')} of {split.name} is longer than "
            f"{encoder.max_target_tokens} tokens (task.max_target_tokens) and was cut, first {split.row_ids[cut[0]]}"
        )
    if len(features) > len(split):
        several = sum(windows > 1 for windows in Counter(features.rows).values())
        progress.say(
            f"{counted(several, 'text')} of {split.name} beyond the length limit, read in overlapping windows: "
            f"{len(features):,} in all"
        )
    if features.words:
        _say_what_became_of_words(split, features, progress)
    for role in present(task.roles, split):
        if role.kind in INPUT_KINDS:
            naming = encoder.rows_naming_special_tokens([as_text(text) for text in split.columns[role.name]])
            if naming:
                progress.say(
                    f"{len(naming)} of {len(split)} texts of {split.name} hold the name of a special token of "
                    f"this tokenizer, which is read as plain text, first {split.row_ids[naming[0]]}"
                )


def _say_what_became_of_words(split: Split, features: Features, progress: Progress) -> None:
    unread = np.array([len(words_of(value)) for value in split.columns[WORDS.name]])
    for row, words in zip(features.rows, features.words, strict=True):
        unread[row] -= int((words >= 0).sum())
    rows = np.flatnonzero(unread)
    if len(rows):
        progress.say(
            f"{counted(int(unread.sum()), 'word')} of {split.name} of which this tokenizer leaves nothing, so that "
            f"nothing is learnt from them; first {split.row_ids[rows[0]]}"
        )


def build_model(recipe: Recipe, prepared: Prepared, progress: Progress) -> PreTrainedModel:
    """Return the base model with a fresh head, and what the strategy adds; its start depends on the seed alone.

    Raises:
        ConfigurationError: ``training.dropout`` cannot be set for every layer of this family, or the strategy cannot
            be followed in it.
    """
    task: Any = recipe.task
    rate = recipe.training.dropout
    options = task.model_options(prepared.learnt)
    if rate is not None:
        options |= dropout_options(prepared.config.to_dict(), rate)
    # A layer of embeddings learns nothing about the token that the configuration calls padding; where a text ends
    # with the token that also pads, the model would not learn to end.
    padding = prepared.encoder.padding["input_ids"] if task.decoding is None else None
    loaded = load_model(prepared.base, task.architectures, options, recipe.seed, padding)
    if task.decoding is not None:
        set_decoding(loaded.model, prepared.encoder, prepared.base, task.decoding)
    progress.say(f"new, drawn from the seed: {', '.join(loaded.new_parameters) or 'nothing'}")
    other = [
        name
        for name, module in loaded.model.named_modules()
        if rate is not None and isinstance(module, nn.Dropout) and module.p != rate
    ]
    if other:
        raise ConfigurationError(
            f"{prepared.base.name} keeps its own rate in {', '.join(other[:5])}",
            where="training.dropout",
            fix="leave training.dropout out for this base model",
        )
    strategy: Any = recipe.strategy
    strategy.adapt(loaded.model, loaded.new_parameters, recipe.seed)
    return loaded.model


def dropout_options(config: dict[str, Any], rate: float) -> dict[str, float]:
    """Return every dropout setting of a configuration set to ``rate``, whatever its family calls it.

    Dropping whole layers (``layerdrop``) is another thing; it is only switched off together with dropout.
    """
    return {
        key: rate
        for key, value in config.items()
        if "drop" in key
        and (value is None or (isinstance(value, float | int) and not isinstance(value, bool)))
        and ("layerdrop" not in key or rate == 0.0)
    }


def build_objective(recipe: Recipe, prepared: Prepared) -> Loss:
    """Bind the objective to the training labels."""
    objective: Any = recipe.objective
    return objective.bind(prepared.examples["train"].targets, prepared.learnt.labels)


def build_strategy(recipe: Recipe, model: PreTrainedModel) -> Stepping:
    """Return the optimiser over the weights that the strategy lets move; all others are frozen."""
    strategy: Any = recipe.strategy
    training = recipe.training
    return build_optimizer(
        model, strategy.parameter_groups(model), resolve_learning_rate(recipe), training.weight_decay
    )


def make_plan(recipe: Recipe, num_examples: int, autocast: torch.dtype | None) -> Plan:
    """Decide the steps of the run; ``epochs`` None means about 1,500 steps within 3 to 20 passes."""
    training = recipe.training
    per_epoch = steps_per_epoch(num_examples, training.batch_size)
    return Plan(
        total_steps=max(1, math.ceil(resolve_epochs(recipe, num_examples) * per_epoch)),
        order=Epochs(training.batch_size, training.order, recipe.seed),
        micro_batch=training.micro_batch,
        seed=recipe.seed,
        warmup_share=training.warmup_share,
        schedule=training.schedule,
        max_gradient_norm=training.max_gradient_norm,
        autocast=autocast,
        decay_share=training.decay_share,
    )


def resolve_epochs(recipe: Recipe, num_examples: int) -> float:
    """Return ``training.epochs``, or what None becomes for this many examples."""
    if recipe.training.epochs is not None:
        return recipe.training.epochs
    per_epoch = steps_per_epoch(num_examples, recipe.training.batch_size)
    return float(min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(SMALL_DATA_STEPS / per_epoch))))


def resolve_learning_rate(recipe: Recipe) -> float:
    """Return ``training.learning_rate``; where it is None that of the base model, or else of the strategy."""
    strategy: Any = recipe.strategy
    suited = suited_learning_rate(recipe.base) if strategy.name == "full" else None
    return recipe.training.learning_rate or suited or float(strategy.learning_rate)


def evaluation_steps(recipe: Recipe, num_examples: int, total_steps: int) -> frozenset[int]:
    """Return the step numbers (1-based) after which the run is validated: evenly in each epoch, and the last."""
    steps = steps_per_epoch(num_examples, recipe.training.batch_size)
    per_epoch = recipe.training.evaluations_per_epoch
    points: NDArray[np.int64] = np.arange(1, math.ceil(total_steps / steps) * per_epoch + 1)
    return frozenset(
        {min(total_steps, round(steps * int(point) / per_epoch)) for point in points} | {total_steps}
    )
