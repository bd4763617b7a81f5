"""One label for each text or pair of texts: sentiment, topic, intent, entailment, paraphrase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import LABEL, TEXT, TEXT_PAIR, Role
from graftlm.data.table import Table
from graftlm.errors import clip
from graftlm.scoring.bootstrap import score
from graftlm.scoring.confusion import count
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.scores import Scores
from graftlm.tasks._same_answer import only_answer
from graftlm.tasks._task import Learnt
from graftlm.tasks._texts import encode_texts, sorted_names

_BASELINE = "always the most frequent training label"


@dataclass(frozen=True)
class LabelPrediction:
    """What a classifier says about one text.

    Args:
        label: the most probable label name.
        score: its probability, 0 to 1.
        scores: label name -> probability; they sum to 1.
    """

    label: str
    score: float
    scores: dict[str, float]


class TextClassification(Config):
    """Text, or a pair of texts -> exactly one of K labels, by softmax over K logits."""

    name: ClassVar[str] = "text_classification"
    roles: ClassVar[tuple[Role, ...]] = (TEXT, TEXT_PAIR, LABEL)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "text-classification"
    objective: ClassVar[str] = "cross_entropy"
    answer_kind: ClassVar[str] = "labels"
    limits: ClassVar[tuple[str, ...]] = (
        "It always answers with one of its labels, also for texts that fit none of them.",
        "Probabilities are those of the softmax; they were not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ()
    default_length_tokens: ClassVar[int] = 512

    max_length_tokens: PositiveInt | None = None
    """Longer texts are cut, and counted aloud. None: the limit of the base model, at most 512."""

    primary_metric: str = "accuracy"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Never: it is what a text and a label mean unless another task recognises them."""
        return None

    def learn(self, train: Split) -> Learnt:
        """Return the distinct labels of train in sorted order (numbers by value, words by code point)."""
        return Learnt(sorted_names(str(label) for label in train.columns["label"]))

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return head size and label names as transformers' config spells them."""
        return {
            "num_labels": len(learnt.labels),
            "id2label": dict(enumerate(learnt.labels)),
            "label2id": {label: index for index, label in enumerate(learnt.labels)},
            "problem_type": "single_label_classification",
        }

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise the ``text`` column, joined with ``text_pair`` where there is one."""
        return encode_texts(split, encoder)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return label positions [rows], by name."""
        position = {label: index for index, label in enumerate(learnt.labels)}
        return np.array([position[str(label)] for label in split.columns["label"]], dtype=np.int64)

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Nothing is tuned: the most probable label wins."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[LabelPrediction]:
        """Return the softmax of each row as a prediction; ties go to the first label."""
        if not len(outputs):
            return []
        logits = np.asarray(outputs, dtype=np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        return [
            LabelPrediction(
                learnt.labels[int(row.argmax())],
                float(row.max()),
                dict(zip(learnt.labels, row.tolist(), strict=True)),
            )
            for row in probabilities
        ]

    def score(
        self, predictions: Sequence[LabelPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare the predicted label of each row with its label."""
        position = {label: index for index, label in enumerate(learnt.labels)}
        sample = count(
            np.array([position[str(label)] for label in split.columns["label"]], dtype=np.int64),
            np.array([position[prediction.label] for prediction in predictions], dtype=np.int64),
            len(learnt.labels),
        )
        return score(sample, learnt.labels, metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[str]:
        """Return the label of each row."""
        return [str(label) for label in split.columns["label"]]

    def record(self, prediction: LabelPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {"label": prediction.label, "score": prediction.score, "scores": prediction.scores}

    def phrase(self, prediction: LabelPrediction) -> str:
        """Return the three most probable labels."""
        likely = sorted(prediction.scores.items(), key=lambda item: -item[1])[:3]
        return "   ".join(f"{label} {score:.1%}" for label, score in likely)

    def decision(self, prediction: LabelPrediction) -> str:
        """Return the label."""
        return prediction.label

    def same_answer(self, predictions: Sequence[LabelPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_answer((each.label for each in predictions), self.references(split))
        return f"the label {clip(only[0])}" if only else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[LabelPrediction]]:
        """Always the most frequent training label."""
        counts = Counter(str(label) for label in train.columns["label"])
        most = max(learnt.labels, key=lambda label: counts[label])
        always = LabelPrediction(most, 1.0, {label: float(label == most) for label in learnt.labels})
        return {_BASELINE: [always] * len(split)}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        return f"It gives each text one of: {', '.join(f'`{label}`' for label in learnt.labels)}."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read the logits with plain transformers."""
        return (
            "probabilities = logits.softmax(-1)[0]\n"
            "print(model.config.id2label[int(probabilities.argmax())], float(probabilities.max()))"
        )
