"""One tag for each word of a text: part of speech, a morphological feature, the language of a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import TAGS, WORDS, Role
from graftlm.data.table import Table
from graftlm.data.words import word_offsets
from graftlm.errors import clip
from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Scores
from graftlm.tasks._tagged_columns import tagged_column
from graftlm.tasks._tagging import (
    encode_words,
    frequent_tags,
    most_frequent_tag,
    only_tag,
    speaking_words,
    tag_options,
    tag_targets,
    tags_of,
    word_log_probabilities,
)
from graftlm.tasks._task import Learnt
from graftlm.tasks._texts import sorted_names

_BASELINE = "each word's most frequent training tag"


@dataclass(frozen=True)
class TagsPrediction:
    """What the model says about one text.

    Args:
        tags: a tag for each word.
        scores: the probability of each tag, 0 to 1.
        offsets: first character and last character + 1 of each word, in the text, or in the words joined by single
            spaces where words were given.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    offsets: tuple[tuple[int, int], ...]


class WordTagging(Config):
    """Words of a text -> one of K tags for each, by a softmax over K logits.

    The first token of each word answers for it; of a model that reads backwards only (a decoder) the last. A text
    beyond the length limit is read in overlapping windows, and each word answered where it has most context; none is
    cut. A word of which the tokenizer leaves nothing gets the most frequent training tag.

    A text is divided into words as `graftlm.data.words.text_offsets` says: at white space and around punctuation.
    """

    name: ClassVar[str] = "word_tagging"
    roles: ClassVar[tuple[Role, ...]] = (WORDS, TAGS)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForTokenClassification",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "token-classification"
    objective: ClassVar[str] = "cross_entropy"
    answer_kind: ClassVar[str] = "tags"
    limits: ClassVar[tuple[str, ...]] = (
        "It always answers with one of its tags, also for words that fit none of them.",
        "Probabilities are those of the softmax; they were not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ()
    default_length_tokens: ClassVar[int] = 512

    max_length_tokens: PositiveInt | None = None
    """Longer texts are read in overlapping windows of this length. None: the limit of the base model, at most 512."""

    primary_metric: str = "accuracy"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where every word has a tag without the prefixes of entities."""
        column = tagged_column(table)
        if column is None or column.kind != "tags":
            return None
        return f"column {column.name!r} holds {column.example}"

    def learn(self, train: Split) -> Learnt:
        """Return the distinct tags of train in sorted order, and the most frequent one."""
        labels = sorted_names(tag for tags in tags_of(train) for tag in tags)
        return Learnt(labels, {"tag_without_token": most_frequent_tag(train)})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """Return head size and label names as transformers' config spells them."""
        return tag_options(learnt.labels)

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise the words of each row, in windows where they exceed the limit."""
        return encode_words(split, encoder)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return tag positions [tokens] for each example; tokens that answer for no word are ignored."""
        return tag_targets(split, features, learnt.labels)

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Nothing is tuned: the most probable tag wins."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[TagsPrediction]:
        """Return the most probable tag of each word; ties go to the first."""
        certain = np.where(np.array(learnt.labels) == learnt.rule["tag_without_token"], 0.0, -np.inf)
        predictions: list[TagsPrediction] = []
        every = word_log_probabilities(outputs, split, features, len(learnt.labels))
        for scores, value in zip(every, split.columns[WORDS.name], strict=True):
            scores[np.isnan(scores).any(axis=1)] = certain
            predictions.append(
                TagsPrediction(
                    tuple(learnt.labels[each] for each in scores.argmax(axis=1).tolist()),
                    tuple(np.exp(scores.max(axis=1)).tolist()),
                    tuple(word_offsets(value)),
                )
            )
        return predictions

    def score(
        self, predictions: Sequence[TagsPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare the tags of words; intervals are over rows, whose words belong together."""
        position = {label: index for index, label in enumerate(learnt.labels)}
        size = len(learnt.labels)
        hits, references, given = (np.zeros((len(split), size)) for _ in range(3))
        for row, (tags, prediction) in enumerate(zip(tags_of(split), predictions, strict=True)):
            truth, guess = ([position[tag] for tag in each] for each in (tags, prediction.tags))
            references[row], given[row] = _tally(truth, size), _tally(guess, size)
            hits[row] = _tally([one for one, other in zip(truth, guess, strict=True) if one == other], size)
        sample = Rows.of(hits=hits, references=references, predictions=given)
        return score(sample, learnt.labels, metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[list[str]]:
        """Return the tags of each row."""
        return [list(tags) for tags in tags_of(split)]

    def record(self, prediction: TagsPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {
            "tags": list(prediction.tags),
            "scores": list(prediction.scores),
            "offsets": [list(offset) for offset in prediction.offsets],
        }

    def phrase(self, prediction: TagsPrediction) -> str:
        """Return the tags."""
        return " ".join(prediction.tags)

    def decision(self, prediction: TagsPrediction) -> tuple[str, ...]:
        """Return the tags."""
        return prediction.tags

    def same_answer(self, predictions: Sequence[TagsPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_tag((each.tags for each in predictions), split)
        return f"the tag {clip(only[0])}" if only else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[TagsPrediction]]:
        """Each word's most frequent tag in train."""
        return {
            _BASELINE: [
                TagsPrediction(tuple(tags), (1.0,) * len(tags), tuple(word_offsets(value)))
                for tags, value in zip(frequent_tags(train, split), split.columns[WORDS.name], strict=True)
            ]
        }

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        return f"It gives each word of a text one of: {', '.join(f'`{label}`' for label in learnt.labels)}."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read the logits with plain transformers."""
        return (
            "# The {side} token of each word speaks for it.\n"
            "words = batch.word_ids(0)\n"
            "best = logits[0].argmax(-1).tolist()\n"
            "print([(word, model.config.id2label[tag]) for tag, word, beside in zip(best, words, {beside})\n"
            "       if word not in (None, beside)])"
        ).format(**speaking_words(learnt))


def _tally(positions: Sequence[int], size: int) -> NDArray[np.int64]:
    return np.bincount(np.array(positions, dtype=np.int64), minlength=size)
