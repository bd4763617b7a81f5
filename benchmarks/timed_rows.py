"""Networks and rows that trainings are timed on: random tokens of some length, or the rows of public data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from data_sets import load, shared_data
from transformers import PreTrainedModel

from graftlm.models.base_model import load_model
from graftlm.models.locating import locate
from graftlm.objectives._objective import Loss
from graftlm.objectives.answer_span import AnswerSpan
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.opening import open_rows
from graftlm.preparation import build_model, build_objective, build_strategy, prepare
from graftlm.progress import Silent
from graftlm.strategies.full import Full
from graftlm.strategies.head_only import HeadOnly
from graftlm.strategies.lora import Lora
from graftlm.training.batching import Examples
from graftlm.training.optimisation import Stepping, build_optimizer

NETWORKS = ("minilm-l6", "bert-base")
STRATEGIES = {"full": Full, "lora": Lora, "head_only": HeadOnly}
BATCH, DECAY, RATE, SEED = 16, 0.01, 2e-5, 1


@dataclass(frozen=True)
class Mix:
    """Lengths of texts: log-normal around ``middle`` tokens, within ``shortest`` and ``longest``.

    Args:
        answers: whether an answer is marked instead of a class given.
        limit: tokens of every row of the side *fixed*.
        rows: that are trained on, again and again.
        turn: steps of each side before the next has its turn: as many as the Trainer's grouped batches take from their
            longest to their shortest, a quarter of the rows.
    """

    middle: float
    spread: float
    shortest: int
    longest: int
    limit: int
    rows: int
    turn: int
    answers: bool = False


@dataclass(frozen=True)
class PublicRows:
    """The first training rows of a set of `data_sets.py`, tokenised and answered as our own task does it.

    Args:
        limit: tokens that are read at once, and those of every row of the side *fixed*.
        rows, turn: see `Mix`.
        answers: whether the task marks answers.
    """

    limit: int
    rows: int
    turn: int
    answers: bool = False


MIXES = {
    "short": Mix(12, 0.6, 4, 66, 128, 1_280, 20),
    "paragraphs": Mix(140, 0.55, 20, 256, 256, 640, 10),
    "answers": Mix(165, 0.40, 60, 384, 384, 640, 10, answers=True),
}
PUBLIC = {
    "sst2": PublicRows(128, 1_280, 20),
    "goemotions": PublicRows(128, 1_280, 20),
    "conll2003": PublicRows(256, 1_280, 20),
    "squadshifts": PublicRows(384, 400, 10, answers=True),
}
ROWS = MIXES | PUBLIC


@dataclass(frozen=True)
class Training:
    """What a side needs to train.

    Args:
        model: the network with a new head, the same for every side.
        optimizer: ours, over the weights that the strategy moves; all others are frozen.
        examples: tokenised rows with targets.
        loss: ours.
    """

    model: PreTrainedModel
    optimizer: Stepping
    examples: Examples
    loss: Loss


def make_training(network: str, rows: str, dropout: float, strategy: str) -> Training:
    """Return the network and one of `ROWS`."""
    if rows in PUBLIC:
        return _on_public_rows(network, rows, dropout, strategy)
    mix = MIXES[rows]
    model, optimizer = make_model(network, mix, dropout, strategy)
    examples = make_examples(mix, model.config.vocab_size)
    assert examples.targets is not None
    objective = AnswerSpan() if mix.answers else CrossEntropy()
    return Training(model, optimizer, examples, objective.bind(examples.targets, ["0", "1"]))


def _on_public_rows(network: str, name: str, dropout: float, strategy: str) -> Training:
    if network != "minilm-l6":
        raise SystemExit(f"{name}: only minilm-l6 has a tokenizer; {network} is timed on random tokens")
    public = PUBLIC[name]
    given = load(name, shared_data(None)).train[: public.rows]
    keys = {
        "base": f"bundled:{network}", "seed": SEED, "data.validation_share": 0.0, "data.test_share": 0.0,
        "task.max_length_tokens": public.limit, "strategy.name": strategy, "training.dropout": dropout,
        "training.learning_rate": RATE, "training.weight_decay": DECAY, "training.device": "cpu",
        "evaluation.proof": "none",
    }  # fmt: skip
    recipe, tables = open_rows(None, keys, given)
    prepared = prepare(recipe, tables, Silent())
    model = build_model(recipe, prepared, Silent())
    optimizer = build_strategy(recipe, model)
    return Training(model, optimizer, prepared.examples["train"], build_objective(recipe, prepared))


def make_examples(mix: Mix, vocabulary: int) -> Examples:
    """Return random rows of a mix."""
    random = np.random.default_rng(SEED)
    lengths = np.exp(random.normal(np.log(mix.middle), mix.spread, mix.rows)).round()
    lengths = lengths.clip(mix.shortest, mix.longest).astype(np.int64)
    first = 1_000 if vocabulary > 2_000 else 5  # what stands before are special tokens and single characters
    ranks = np.arange(vocabulary - first)
    share = 1 / (ranks + 2.7)
    words = first + random.permutation(vocabulary - first)
    ids = [words[random.choice(ranks, size=length, p=share / share.sum())].tolist() for length in lengths]
    if mix.answers:
        start = (random.random(mix.rows) * (lengths - 1)).astype(np.int64)
        targets = np.stack([start, np.minimum(start + 2, lengths - 1)], axis=1)
    else:
        targets = random.integers(0, 2, size=mix.rows)
    segments = [[0] * len(each) for each in ids]
    return Examples(
        {"input_ids": ids, "token_type_ids": segments}, targets, {"input_ids": 0, "token_type_ids": 0}
    )


def make_model(
    network: str, mix: Mix, dropout: float, strategy: str = "full"
) -> tuple[PreTrainedModel, Stepping]:
    """Return the network with a new head and our optimiser, see `Training`."""
    head = "QuestionAnswering" if mix.answers else "SequenceClassification"
    options: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    new: list[str] = []
    if network == "minilm-l6":
        loaded = load_model(locate("bundled:minilm-l6"), [f"AutoModelFor{head}"], options, SEED)
        model, new = loaded.model, loaded.new_parameters
    else:
        torch.manual_seed(SEED)
        model = getattr(transformers, f"BertFor{head}")(transformers.BertConfig(**options))
    chosen: Any = STRATEGIES[strategy]()
    chosen.adapt(model, new, SEED)
    return model, build_optimizer(model, chosen.parameter_groups(model), RATE, DECAY)
