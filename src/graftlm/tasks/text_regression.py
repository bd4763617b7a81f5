"""One number for each text or pair of texts: a rating, a price, a similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.column_content import describe_content
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import LABEL, NUMBER, TEXT, TEXT_PAIR, Role
from graftlm.data.table import Table
from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Scores
from graftlm.tasks._task import Learnt
from graftlm.tasks._texts import encode_texts

# Numbers with fractions, and more different ones than anybody would call classes.
_MOST_CLASSES = 20

# Numbers that vary less than this share of what they should are one number.
_SAME_SHARE = 0.01

_BASELINE = "always the mean of the training numbers"


@dataclass(frozen=True)
class NumberPrediction:
    """What the model says about one text.

    Args:
        number: in the units of the training column.
    """

    number: float


class TextRegression(Config):
    """Text, or a pair of texts -> one number.

    The model is trained on the numbers in standard deviations from their mean in train, so that any unit trains
    alike; predictions and scores are in the units of the column.
    """

    name: ClassVar[str] = "text_regression"
    roles: ClassVar[tuple[Role, ...]] = (TEXT, TEXT_PAIR, NUMBER)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "text-classification"
    objective: ClassVar[str] = "mean_squared_error"
    answer_kind: ClassVar[str] = "numbers"
    limits: ClassVar[tuple[str, ...]] = (
        "It answers with a number for any text, also for one unlike those of its training.",
    )
    quotes: ClassVar[tuple[str, ...]] = ()
    default_length_tokens: ClassVar[int] = 512

    max_length_tokens: PositiveInt | None = None
    """Longer texts are cut, and counted aloud. None: the limit of the base model, at most 512."""

    primary_metric: str = "pearson"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where a column with a name of numbers holds many with fractions, and no column is a label.

        Numbers that only a reader takes for such are recognised too, so that their reading says what is wrong.
        """
        contents = {
            name: describe_content(values)
            for name, values in table.columns.items()
            if name.strip().lower() in (NUMBER.name, *NUMBER.hints, *LABEL.hints)
        }
        if any(
            content.label_like for name, content in contents.items() if name.strip().lower() in LABEL.hints
        ):
            return None
        for name, content in contents.items():
            # 1,2 in a column of labels may be two of them.
            written = content.written_numbers and name.strip().lower() not in LABEL.hints
            if (content.numbers_with_fraction or written) and content.distinct > _MOST_CLASSES:
                fractions = "" if written else " with fractions"
                return f"column {name!r} holds {content.distinct} different numbers{fractions}"
        return None

    def learn(self, train: Split) -> Learnt:
        """Return mean and standard deviation of the training numbers."""
        values = _numbers(train)
        deviation = float(values.std())
        return Learnt((), {"mean": float(values.mean()), "standard_deviation": deviation or 1.0})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return a head with one output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise the ``text`` column, joined with ``text_pair`` where there is one."""
        return encode_texts(split, encoder)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return the numbers [rows] in standard deviations from the training mean."""
        standard = (_numbers(split) - learnt.rule["mean"]) / learnt.rule["standard_deviation"]
        return standard.astype(np.float32)

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Nothing is tuned."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[NumberPrediction]:
        """Return the outputs in the units of the column."""
        values = np.asarray(outputs, dtype=np.float64).reshape(-1)
        scaled = values * learnt.rule["standard_deviation"] + learnt.rule["mean"]
        return [NumberPrediction(float(value)) for value in scaled]

    def score(
        self, predictions: Sequence[NumberPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare the predicted numbers with those of the rows."""
        sample = Rows.of(
            reference=_numbers(split),
            prediction=np.array([prediction.number for prediction in predictions]),
        )
        return score(sample, (), metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[float]:
        """Return the number of each row."""
        return _numbers(split).tolist()

    def record(self, prediction: NumberPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {"number": prediction.number}

    def phrase(self, prediction: NumberPrediction) -> str:
        """Return the number."""
        return f"{prediction.number:.4g}"

    def decision(self, prediction: NumberPrediction) -> None:
        """Nothing is decided: a number may differ by rounding."""

    def same_answer(self, predictions: Sequence[NumberPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        given, wanted = np.array([each.number for each in predictions]), _numbers(split)
        if given.std() > _SAME_SHARE * wanted.std() or wanted.std() == 0.0:
            return None
        return f"numbers near {given.mean():.4g}"

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[NumberPrediction]]:
        """Always the mean of the training numbers."""
        return {_BASELINE: [NumberPrediction(learnt.rule["mean"])] * len(split)}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        return (
            "It gives each text a number, in the units of the training column (mean "
            f"{learnt.rule['mean']:.4g}, standard deviation {learnt.rule['standard_deviation']:.4g})."
        )

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read the output with plain transformers."""
        deviation, mean = learnt.rule["standard_deviation"], learnt.rule["mean"]
        return f"print(float(logits[0, 0]) * {deviation!r} + {mean!r})"


def _numbers(split: Split) -> NDArray[np.float64]:
    return np.array(cast("list[float]", split.columns["number"]), dtype=np.float64)
