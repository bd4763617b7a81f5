"""Any number of labels for each text: topics, emotions, tags of a post."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.column_content import nearly_all
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import LABEL_SET, TEXT, TEXT_PAIR, Role
from graftlm.data.table import Table
from graftlm.errors import clip
from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Scores
from graftlm.scoring.thresholds import best_thresholds
from graftlm.tasks._same_answer import only_answer
from graftlm.tasks._tagged_columns import tagged_column
from graftlm.tasks._task import Learnt
from graftlm.tasks._texts import encode_texts, sorted_names

_UNTUNED = 0.5

_MOST_FREQUENT = "always the most frequent training label"
_EVERY = "always every label"


@dataclass(frozen=True)
class LabelSetPrediction:
    """What the model says about one text.

    Args:
        labels: the names whose probability reaches their threshold, the most probable first; maybe none.
        scores: label name -> probability, each on its own from 0 to 1.
    """

    labels: tuple[str, ...]
    scores: dict[str, float]


class MultiLabelClassification(Config):
    """Text, or a pair of texts -> any of K labels, each a yes-or-no decision by the logistic function.

    A label is given where its probability reaches its threshold. The thresholds are those that maximise F1 on the
    validation rows (see `best_thresholds`); without validation rows they are 0.5.
    """

    name: ClassVar[str] = "multi_label_classification"
    roles: ClassVar[tuple[Role, ...]] = (TEXT, TEXT_PAIR, LABEL_SET)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "text-classification"
    objective: ClassVar[str] = "binary_cross_entropy"
    answer_kind: ClassVar[str] = "label_sets"
    limits: ClassVar[tuple[str, ...]] = (
        "It knows no label but these, and decides about each on its own.",
        "Probabilities are those of the logistic function; they were not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ()
    default_length_tokens: ClassVar[int] = 512

    max_length_tokens: PositiveInt | None = None
    """Longer texts are cut, and counted aloud. None: the limit of the base model, at most 512."""

    primary_metric: str = "f1_micro"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where a column with a name of labels holds lists of names that are no tags of words."""
        if tagged_column(table) is not None:
            return None
        for name, values in table.columns.items():
            if name.strip().lower() in LABEL_SET.hints and nearly_all(map(_is_list_of_names, values)):
                return f"column {name!r} holds lists"
        return None

    def learn(self, train: Split) -> Learnt:
        """Return the distinct labels of train in sorted order, and thresholds of 0.5."""
        labels = sorted_names(label for labels in _sets(train) for label in labels)
        return Learnt(labels, {"thresholds": [_UNTUNED] * len(labels)})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return head size and label names as transformers' config spells them."""
        return {
            "num_labels": len(learnt.labels),
            "id2label": dict(enumerate(learnt.labels)),
            "label2id": {label: index for index, label in enumerate(learnt.labels)},
            "problem_type": "multi_label_classification",
        }

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise the ``text`` column, joined with ``text_pair`` where there is one."""
        return encode_texts(split, encoder)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return 1 where a row has a label, else 0: [rows, labels]."""
        return _matrix(_sets(split), learnt.labels).astype(np.float32)

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Return the thresholds that maximise F1 on these rows."""
        thresholds = best_thresholds(_matrix(_sets(split), learnt.labels), _logistic(outputs, learnt))
        return Learnt(learnt.labels, {"thresholds": thresholds.tolist()})

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[LabelSetPrediction]:
        """Return the labels of each row whose probability reaches the threshold."""
        thresholds = np.array(learnt.rule["thresholds"])
        predictions: list[LabelSetPrediction] = []
        for probabilities in _logistic(outputs, learnt):
            given = [int(index) for index in np.argsort(-probabilities, kind="stable")]
            predictions.append(
                LabelSetPrediction(
                    tuple(
                        learnt.labels[index] for index in given if probabilities[index] >= thresholds[index]
                    ),
                    dict(zip(learnt.labels, probabilities.tolist(), strict=True)),
                )
            )
        return predictions

    def score(
        self, predictions: Sequence[LabelSetPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare the predicted labels of each row with its labels, and their ranking by probability."""
        truth = _matrix(_sets(split), learnt.labels)
        guess = _matrix([prediction.labels for prediction in predictions], learnt.labels)
        probabilities = [[each.scores[label] for label in learnt.labels] for each in predictions]
        sample = Rows.of(
            hits=truth & guess,
            references=truth,
            predictions=guess,
            exact=(truth == guess).all(axis=1),
            scores=np.array(probabilities, dtype=np.float64),
        )
        return score(sample, learnt.labels, metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[list[str]]:
        """Return the labels of each row."""
        return [list(labels) for labels in _sets(split)]

    def record(self, prediction: LabelSetPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {"labels": list(prediction.labels), "scores": prediction.scores}

    def phrase(self, prediction: LabelSetPrediction) -> str:
        """Return the labels that are given, or that none is."""
        given = [f"{label} {prediction.scores[label]:.1%}" for label in prediction.labels]
        return "   ".join(given) or "no label"

    def decision(self, prediction: LabelSetPrediction) -> frozenset[str]:
        """Return the labels."""
        return frozenset(prediction.labels)

    def same_answer(self, predictions: Sequence[LabelSetPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_answer((frozenset(each.labels) for each in predictions), map(frozenset, _sets(split)))
        if not only:
            return None
        return f"the labels {', '.join(map(clip, sorted(only[0])))}" if only[0] else "no label"

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[LabelSetPrediction]]:
        """Always the most frequent training label, and always every label, each as probable as it is in train."""
        sets = _sets(train)
        counts = Counter(label for labels in sets for label in labels)
        most = max(learnt.labels, key=lambda label: counts[label])
        shares = {label: counts[label] / len(sets) for label in learnt.labels}
        answers = {_MOST_FREQUENT: (most,), _EVERY: learnt.labels}
        return {name: [LabelSetPrediction(labels, shares)] * len(split) for name, labels in answers.items()}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        thresholds = ", ".join(
            f"`{label}` from {threshold:.3f}"
            for label, threshold in zip(learnt.labels, learnt.rule["thresholds"], strict=True)
        )
        return f"It gives each text those labels whose probability reaches their threshold: {thresholds}."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read the logits with plain transformers."""
        thresholds = ", ".join(f"{threshold:.6g}" for threshold in learnt.rule["thresholds"])
        return (
            "probabilities = logits.sigmoid()[0]\n"
            f"thresholds = torch.tensor([{thresholds}])\n"
            "print([model.config.id2label[int(index)] for index in (probabilities >= thresholds).nonzero()])"
        )


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and not any(
        isinstance(part, dict | list) for part in cast("list[object]", value)
    )


def _sets(split: Split) -> list[tuple[str, ...]]:
    return cast("list[tuple[str, ...]]", split.columns["labels"])


def _matrix(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    position = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(sets), len(labels)), dtype=np.bool_)
    for row, names in enumerate(sets):
        matrix[row, [position[name] for name in names]] = True
    return matrix


def _logistic(outputs: Outputs, learnt: Learnt) -> NDArray[np.float64]:
    logits = np.asarray(outputs, dtype=np.float64).reshape(-1, len(learnt.labels))
    return 0.5 * (1.0 + np.tanh(0.5 * logits))  # the logistic function, without overflow
