"""What every task answers. Tasks are torch-free: they speak in rows, token ids and numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import Role
from graftlm.data.table import Table
from graftlm.data.writing import Decoding
from graftlm.scoring.scores import Scores

SPEAKING = "speaking_token"
"""Key of a rule: which token of a word answers for it, first or last; models of version 0.1.0 have first."""


@dataclass(frozen=True)
class Learnt:
    """What was learnt from the rows beside the weights: all that turns outputs into decisions.

    Args:
        labels: label names in the order of the head's outputs; always from train, by name. Empty where the task
            has none.
        rule: numbers such as thresholds, as JSON values.
    """

    labels: tuple[str, ...]
    rule: dict[str, Any] = field(default_factory=dict[str, Any])


class Task(Protocol):
    """What the labels mean. One file per task; the file name is the name in a recipe."""

    name: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    """The columns it reads."""
    architectures: ClassVar[tuple[str, ...]]
    """The transformers classes that carry its head, so that the artefact loads without GraftLM: the first of them that
    the family of the base model has."""
    pipeline_tag: ClassVar[str]
    """What model hubs call the task."""
    objective: ClassVar[str]
    """The objective unless the recipe names another."""
    answer_kind: ClassVar[str]
    """What it answers with (``labels``, ``numbers`` ...); objectives and metrics say which kinds they are for."""
    limits: ClassVar[tuple[str, ...]]
    """Sentences for the model card: what it cannot do."""
    quotes: ClassVar[tuple[str, ...]]
    """Keys of `record` that repeat texts of the user; they are left out of the files of a run."""
    default_length_tokens: ClassVar[int]
    """Where ``max_length_tokens`` is None: the tokens read at once, as far as the base model reads so many."""

    @property
    def loss_roles(self) -> Sequence[str]:
        """Whose messages are learnt, where rows are conversations; empty where they are none."""
        ...

    @property
    def decoding(self) -> Decoding | None:
        """How it writes texts; None where it writes none."""
        ...

    max_length_tokens: int | None
    primary_metric: str

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why these columns are for this task (it follows "the task is X, because"), or None."""
        ...

    def learn(self, train: Split) -> Learnt:
        """Return the labels, and the rule before any tuning."""
        ...

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return the config entries that give the head its size and label names."""
        ...

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Turn rows into token ids, in row order."""
        ...

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return what the objective compares the outputs with, one entry per example of ``features``."""
        ...

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Return the rule that is best on these rows, which then give no headline; unchanged where none is tuned."""
        ...

    def decode(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Sequence[Any]:
        """Return one typed prediction per row of ``split``."""
        ...

    def score(self, predictions: Sequence[Any], split: Split, learnt: Learnt, **options: Any) -> Scores:
        """Return all metrics of predictions against the labels of ``split``, with intervals."""
        ...

    def references(self, split: Split) -> Sequence[Any]:
        """Return what the user gave for each row, as JSON values: names and numbers, never texts."""
        ...

    def record(self, prediction: Any) -> dict[str, Any]:
        """Return one prediction as plain values for JSON Lines."""
        ...

    def phrase(self, prediction: Any) -> str:
        """Return one prediction in a line for a person: the likeliest answers with their probabilities."""
        ...

    def decision(self, prediction: Any) -> Any:
        """Return what a reader takes from a prediction, without its scores; None where it is a number."""
        ...

    def same_answer(self, predictions: Sequence[Any], split: Split) -> str | None:
        """Return what every row is answered with where other answers are right as well; None where answers differ.

        A model that does so has learnt nothing about the rows. In words for reports, without any text of the user.
        """
        ...

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> Mapping[str, Sequence[Any]]:
        """Return the predictions of the simplest honest competitors, for scores beside ours: in words -> predictions.

        The first is the one to beat.
        """
        ...

    def describe(self, learnt: Learnt) -> str:
        """Return one sentence for the model card: what the model answers."""
        ...

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return the Python lines that turn what the model card gives them into an answer.

        These are ``logits`` of a batch of one; for a head that answers questions ``question``, ``context`` and
        ``limit`` (tokens), with ``tokenizer`` and ``model``; for one that writes ``source`` or ``messages``. Which of
        its ``architectures`` the model has is told.
        """
        ...
