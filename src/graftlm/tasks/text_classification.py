"""One label for each text: sentiment, topic, intent, spam."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from graftlm.catalog import Catalog
from graftlm.config import Config
from graftlm.data.columns import LABEL_HINTS, TEXT_HINTS, Role
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features
from graftlm.scoring.bootstrap import score
from graftlm.scoring.scores import Scores

HEADLINES = ("accuracy", "f1_macro", "f1_weighted", "matthews_correlation")


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
    """Text -> exactly one of K labels, by softmax over K logits."""

    name: ClassVar[str] = "text_classification"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("text", "text", TEXT_HINTS),
        Role("label", "label", LABEL_HINTS),
    )
    architecture: ClassVar[str] = "AutoModelForSequenceClassification"
    baseline_name: ClassVar[str] = "always the most frequent training label"

    max_length_tokens: PositiveInt | None = None
    """Longer texts are cut, and counted aloud. None: the limit of the base model, at most 512."""

    primary_metric: str = "accuracy"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        if value not in HEADLINES:
            raise ValueError(f"must be one of {', '.join(HEADLINES)}")
        return value

    def label_names(self, train: Split) -> tuple[str, ...]:
        """Return the distinct labels of train in sorted order (numbers by value, words by code point)."""
        names = {str(label) for label in train.columns["label"]}
        if all(name.isdecimal() for name in names):
            return tuple(sorted(names, key=lambda name: (int(name), name)))
        return tuple(sorted(names))

    def model_options(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return head size and label names as transformers' config spells them."""
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise the ``text`` column."""
        return encoder([str(text) for text in split.columns["text"]])

    def targets(self, split: Split, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return label positions [rows], by name."""
        position = {label: index for index, label in enumerate(labels)}
        return np.array([position[str(label)] for label in split.columns["label"]], dtype=np.int64)

    def score(
        self, logits: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str], **options: Any
    ) -> Scores:
        """Score the most probable label of each row; ties go to the first label."""
        metrics = [Catalog("metrics").get(name)() for name in Catalog("metrics").names()]
        return score(targets, logits.argmax(axis=1), labels, metrics, self.primary_metric, **options)

    def decode(self, logits: NDArray[np.float32], labels: Sequence[str]) -> list[LabelPrediction]:
        """Return the softmax of each row as a prediction."""
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        return [
            LabelPrediction(
                labels[int(row.argmax())], float(row.max()), dict(zip(labels, row.tolist(), strict=True))
            )
            for row in probabilities
        ]

    def record(self, prediction: LabelPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {"label": prediction.label, "score": prediction.score, "scores": prediction.scores}

    def baseline(self, train: Split, split: Split, labels: Sequence[str]) -> NDArray[np.float32]:
        """Always the most frequent training label."""
        counts = Counter(str(label) for label in train.columns["label"])
        logits = np.zeros((len(split), len(labels)), dtype=np.float32)
        logits[:, list(labels).index(max(labels, key=lambda label: counts[label]))] = 1.0
        return logits
