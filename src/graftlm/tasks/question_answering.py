"""Extractive question answering: the passage of a context that answers a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.answers import START_COLUMN, Answer, mostly_found
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import ANSWERS, CONTEXT, QUESTION, Role
from graftlm.data.table import Table
from graftlm.scoring.answer_texts import answer_scores, normalised_words
from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Scores
from graftlm.scoring.thresholds import best_margin
from graftlm.tasks._answer_spans import SEARCHED, RowSpans, likely_spans, token_positions
from graftlm.tasks._task import Learnt

_THRESHOLD = "no_answer_threshold"
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_USAGE = """\
room = limit - len(tokenizer.tokenize(question)) - tokenizer.num_special_tokens_to_add(pair=True)
windows = tokenizer(
    question, context, truncation="only_second", max_length=limit, stride=min({stride}, room // 2), padding=True,
    return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
)
offsets, _ = windows.pop("offset_mapping"), windows.pop("overflow_to_sample_mapping")
with torch.inference_mode():
    outputs = model(**windows)
best, no_answer = (-torch.inf, 0, 0), torch.inf
for row, (starts, ends) in enumerate(zip(outputs.start_logits, outputs.end_logits)):
    inside = torch.tensor([part == 1 for part in windows.sequence_ids(row)])
    allowed = (inside[:, None] & inside).triu().tril({longest} - 1)
    value, place = (starts[:, None] + ends).masked_fill(~allowed, -torch.inf).flatten().max(0)
    start, end = divmod(int(place), len(ends))
    best = max(best, (float(value), int(offsets[row, start, 0]), int(offsets[row, end, 1])))
    no_answer = min(no_answer, float(starts[0] + ends[0]))
"""
_PRINT = "print(context[best[1] : best[2]].strip())"
_PRINT_OR_NONE = (
    'print("no answer" if no_answer - best[0] > {threshold!r} else context[best[1] : best[2]].strip())'
)

_BASELINE = (
    "the sentence with most words of the question (no answer, where train holds questions without one)"
)


@dataclass(frozen=True)
class AnswerCandidate:
    """A passage that may answer.

    Args:
        answer: ``context[start:end]``.
        start: position of its first character.
        end: position behind its last.
        score: see `AnswerPrediction`.
    """

    answer: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class AnswerPrediction:
    """What the model answers.

    Args:
        answer: ``context[start:end]``; empty for no answer.
        start: position of its first character in the context; None for no answer.
        end: position behind its last; None for no answer.
        score: probability, 0 to 1, among the 20 most likely passages (and no answer, where the model knows that).
        no_answer_margin: by how much no answer beats the best passage, as a difference of sums of logits.
        candidates: the most likely passages, the best first, also where the prediction is no answer.
    """

    answer: str
    start: int | None
    end: int | None
    score: float
    no_answer_margin: float
    candidates: tuple[AnswerCandidate, ...]


class QuestionAnswering(Config):
    """A question and a context of any length -> the passage of the context that answers, or no answer.

    A long context is read in windows that overlap. In each the head gives every token a score of starting and one of
    ending the answer; the pair with the largest sum over all windows wins. Where train holds questions without an
    answer, no answer wins if its sum, the smallest over the windows, exceeds that of the best passage by more than a
    threshold: the one that makes F1 best on the validation rows, 0 without such rows.
    """

    name: ClassVar[str] = "question_answering"
    roles: ClassVar[tuple[Role, ...]] = (QUESTION, CONTEXT, ANSWERS)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForQuestionAnswering",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "question-answering"
    objective: ClassVar[str] = "answer_span"
    answer_kind: ClassVar[str] = "answers"
    limits: ClassVar[tuple[str, ...]] = (
        "It quotes the context and knows nothing else: what the context has wrong, it answers wrong.",
        "Without training questions that have no answer it always answers, also where the context does not.",
        "Scores are those of a softmax over likely passages; they were not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ("answer",)
    default_length_tokens: ClassVar[int] = 384

    max_length_tokens: PositiveInt | None = None
    """Tokens of a window, question included; longer contexts are read in several. None: the limit of the base model,
    at most 384."""

    stride_tokens: Annotated[int, Field(ge=0)] = 128
    """Tokens that neighbouring windows of one context share."""

    max_answer_tokens: PositiveInt = 30
    """Longer passages are never predicted."""

    n_best: Annotated[int, Field(ge=1, le=SEARCHED)] = 5
    """Likely passages listed with each prediction, at most 20."""

    language: Literal["en", "es", "hi", "vi", "de", "ar", "zh"] | None = None
    """Scores compare answers by the rules of MLQA for this language. None: by those of SQuAD."""

    primary_metric: str = "f1"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where there are columns of questions, contexts and answers."""
        names = {name.strip().lower(): name for name in table.columns}
        found = [next((names[hint] for hint in role.hints if hint in names), None) for role in cls.roles]
        if None in found:
            return None
        reason = f"it has the columns {', '.join(map(repr, found))}"
        _, context, answer = (table.columns[str(name)] for name in found)
        if START_COLUMN in names or all(isinstance(value, list | Mapping) for value in answer):
            return reason
        # An answer may also be yes or no, or a choice; a passage stands in its context.
        return f"{reason}, and the contexts hold the answers" if mostly_found(answer, context) else None

    def learn(self, train: Split) -> Learnt:
        """Return a threshold of 0 for no answer where some questions of train have none."""
        return Learnt((), {} if all(_answers(train)) else {_THRESHOLD: 0.0})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return a head with two outputs a token."""
        return {"num_labels": 2}

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise each question with the windows of its context."""
        return encoder.windows(_texts(split, "question"), _texts(split, "context"), self.stride_tokens)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return first and last token of the answer in each window [windows, 2]; the first token where it has none."""
        return token_positions(_answers(split), features)

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Return the threshold for no answer that makes F1 best on these rows, where there is one."""
        if _THRESHOLD not in learnt.rule:
            return learnt
        rows = self._spans(outputs, split, features)
        gains = np.zeros(len(rows))
        for row, (spans, context, right) in enumerate(
            zip(rows, _texts(split, "context"), _right_texts(split), strict=True)
        ):
            if spans.spans:
                answer = context[spans.spans[0].start : spans.spans[0].end]
                gains[row] = self._f1(answer, right) - self._f1("", right)
        return Learnt(learnt.labels, {_THRESHOLD: best_margin(np.array([row.margin for row in rows]), gains)})

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[AnswerPrediction]:
        """Return the best passage of each row over all its windows, or no answer by the rule."""
        return [
            self._prediction(spans, context, learnt.rule.get(_THRESHOLD))
            for spans, context in zip(
                self._spans(outputs, split, features), _texts(split, "context"), strict=True
            )
        ]

    def score(
        self, predictions: Sequence[AnswerPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare answers as SQuAD 1.1 does, or as 2.0 does where ``split`` holds questions without an answer.

        Questions about one context are resampled together.
        """
        right = _right_texts(split)
        may_lack = not all(right)
        values = np.array(
            [
                answer_scores(prediction.answer, texts, self.language, may_lack)
                for prediction, texts in zip(predictions, right, strict=True)
            ]
        ).reshape(-1, 2)
        answerable = np.array([bool(texts) for texts in right], dtype=np.float64)
        sample = Rows.of(exact_match=values[:, 0], f1=values[:, 1], answerable=answerable)
        sample = sample.together(_texts(split, "context"))
        return score(sample, (), metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[list[list[int]]]:
        """Return the characters from ... to of each answer of each row, as far as they are known."""
        return [
            [[start, start + len(text)] for text, start in answers if start is not None]
            for answers in _answers(split)
        ]

    def record(self, prediction: AnswerPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {
            "answer": prediction.answer,
            "start": prediction.start,
            "end": prediction.end,
            "score": prediction.score,
            "no_answer_margin": prediction.no_answer_margin,
            "candidates": [
                {"start": each.start, "end": each.end, "score": each.score} for each in prediction.candidates
            ],
        }

    def phrase(self, prediction: AnswerPrediction) -> str:
        """Return the answer with its probability."""
        return f"{prediction.answer or '(no answer)'} {prediction.score:.1%}"

    def decision(self, prediction: AnswerPrediction) -> tuple[int | None, int | None]:
        """Return from where to where the answer goes."""
        return prediction.start, prediction.end

    def same_answer(self, predictions: Sequence[AnswerPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        silent = len(predictions) > 1 and all(each.start is None for each in predictions)
        return "no answer" if silent and any(_answers(split)) else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[AnswerPrediction]]:
        """No answer where train knows that, else the sentence of the context with most words of the question."""
        if _THRESHOLD in learnt.rule:
            return {_BASELINE: [AnswerPrediction("", None, None, 1.0, 0.0, ())] * len(split)}
        pairs = zip(_texts(split, "question"), _texts(split, "context"), strict=True)
        return {_BASELINE: [self._most_similar_sentence(question, context) for question, context in pairs]}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        if _THRESHOLD not in learnt.rule:
            return "It answers a question with a passage of the context that is given with it."
        return (
            "It answers a question with a passage of the context that is given with it, or with nothing where no "
            f"answer beats the best passage by more than {learnt.rule[_THRESHOLD]:.3f} (sums of logits)."
        )

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read windows of ``context`` with plain transformers, at most ``limit`` tokens each."""
        code = _USAGE.format(stride=self.stride_tokens, longest=self.max_answer_tokens)
        if _THRESHOLD not in learnt.rule:
            return code + _PRINT
        return code + _PRINT_OR_NONE.format(threshold=learnt.rule[_THRESHOLD])

    def _spans(self, outputs: Outputs, split: Split, features: Features) -> list[RowSpans]:
        return likely_spans(outputs, features, _texts(split, "context"), self.max_answer_tokens)

    def _f1(self, answer: str, right: Sequence[str]) -> float:
        return answer_scores(answer, right, self.language, may_lack=True)[1]

    def _prediction(self, row: RowSpans, context: str, threshold: float | None) -> AnswerPrediction:
        values = [span.value for span in row.spans]
        probabilities = _softmax(values if threshold is None and values else [*values, row.no_answer])
        candidates = tuple(
            AnswerCandidate(context[span.start : span.end], span.start, span.end, probability)
            for span, probability in zip(row.spans, probabilities, strict=False)
        )
        listed = candidates[: self.n_best]
        if not candidates or (threshold is not None and row.margin > threshold):
            return AnswerPrediction("", None, None, probabilities[-1], row.margin, listed)
        best = candidates[0]
        return AnswerPrediction(best.answer, best.start, best.end, best.score, row.margin, listed)

    def _most_similar_sentence(self, question: str, context: str) -> AnswerPrediction:
        wanted = set(normalised_words(question, self.language))
        found = max(
            _SENTENCE.finditer(context),
            key=lambda match: len(wanted & set(normalised_words(match[0], self.language))),
            default=None,
        )
        start, end = found.span() if found else (0, len(context))
        return AnswerPrediction(context[start:end], start, end, 1.0, 0.0, ())


def _texts(split: Split, role: str) -> list[str]:
    return cast("list[str]", split.columns[role])


def _answers(split: Split) -> list[Sequence[Answer]]:
    return cast("list[Sequence[Answer]]", split.columns["answers"])


def _right_texts(split: Split) -> list[list[str]]:
    return [[text for text, _ in answers] for answers in _answers(split)]


def _softmax(values: Sequence[float]) -> list[float]:
    powers: NDArray[np.float64] = np.exp(np.array(values) - max(values))
    return (powers / powers.sum()).tolist()
