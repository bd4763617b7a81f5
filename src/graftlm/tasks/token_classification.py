"""Entities in a text, each a run of words: names, places, dates, chunks, phrases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import ENTITIES, WORDS, Role
from graftlm.data.table import Table
from graftlm.data.tag_schemes import OUTSIDE, entity_types, repaired, spans_of
from graftlm.data.words import Offsets, word_offsets
from graftlm.errors import clip
from graftlm.scoring.bootstrap import score
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows
from graftlm.scoring.scores import Scores
from graftlm.tasks._tagged_columns import tagged_column
from graftlm.tasks._tagging import (
    encode_words,
    frequent_tags,
    only_tag,
    speaking_words,
    tag_options,
    tag_targets,
    tags_of,
    word_log_probabilities,
)
from graftlm.tasks._task import Learnt
from graftlm.tasks._viterbi import best_tags

_USAGE = """\
# The {side} token of each word speaks for it; the best sequence in which every I- continues an entity of its type.
words = batch.word_ids(0)
speaking = [token for token, (word, beside) in enumerate(zip(words, {beside})) if word not in (None, beside)]
names = [model.config.id2label[index] for index in range(model.config.num_labels)]
wall = [[0.0 if after[:2] != "I-" or before[2:] == after[2:] else -1e9 for after in names] for before in names]
wall = torch.tensor(wall)
scores = logits[0, speaking].log_softmax(-1)
total, steps = scores[0] + wall[names.index("O")], []
for each in scores[1:]:
    best = (total[:, None] + wall).max(0)
    total, steps = best.values + each, [best.indices, *steps]
path = [int(total.argmax())]
for step in steps:
    path = [int(step[path[0]]), *path]
print([(words[token], names[tag]) for token, tag in zip(speaking, path)])"""

_BASELINE = "each word's most frequent training tag"


@dataclass(frozen=True)
class Entity:
    """One entity of a text.

    Args:
        start: first character, in the text, or in the words joined by single spaces where words were given.
        end: last character + 1.
        label: its type.
        score: mean over its words of the probability of their tag, 0 to 1.
    """

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class EntitiesPrediction:
    """What the model says about one text.

    Args:
        entities: in the order of the text; they never overlap.
        tags: an IOB2 tag for each word.
        offsets: first character and last character + 1 of each word, as in `Entity`.
    """

    entities: tuple[Entity, ...]
    tags: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]


class TokenClassification(Config):
    """Words of a text -> entities, by a softmax over IOB2 tags for each word.

    The first token of each word answers for it; of a model that reads backwards only (a decoder) the last. The tags are
    the most probable sequence in which every ``I-`` continues an entity of its type, so that no prediction is
    malformed. A text beyond the length limit is read in overlapping windows, and each word answered where it has most
    context; none is cut. A word of which the tokenizer leaves nothing is ``O``.

    A text is divided into words as `graftlm.data.words.text_offsets` says: at white space and around punctuation.
    """

    name: ClassVar[str] = "token_classification"
    roles: ClassVar[tuple[Role, ...]] = (WORDS, ENTITIES)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForTokenClassification",)
    decoding: ClassVar[None] = None
    loss_roles: ClassVar[tuple[str, ...]] = ()
    pipeline_tag: ClassVar[str] = "token-classification"
    objective: ClassVar[str] = "cross_entropy"
    answer_kind: ClassVar[str] = "spans"
    limits: ClassVar[tuple[str, ...]] = (
        "It finds no type of entity but these; entities neither overlap nor begin or end inside a word.",
        "The score of an entity is the mean probability of its tags; it was not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ()
    default_length_tokens: ClassVar[int] = 512

    max_length_tokens: PositiveInt | None = None
    """Longer texts are read in overlapping windows of this length. None: the limit of the base model, at most 512."""

    primary_metric: str = "f1_micro"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where words have tags with prefixes such as B-, or character spans."""
        column = tagged_column(table)
        if column is None or column.kind == "tags":
            return None
        return f"column {column.name!r} holds {column.example}"

    def learn(self, train: Split) -> Learnt:
        """Return the IOB2 tags of all types of train, sorted; both tags of a type, also where train has but one."""
        types = entity_types(tag for tags in tags_of(train) for tag in tags)
        return Learnt(tuple(sorted([OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI")])))

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
        """Nothing is tuned: the most probable sequence wins."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[EntitiesPrediction]:
        """Return the most probable valid tags of each row, and their entities."""
        certain = np.where(np.array(learnt.labels) == OUTSIDE, 0.0, -np.inf)
        predictions: list[EntitiesPrediction] = []
        every = word_log_probabilities(outputs, split, features, len(learnt.labels))
        for scores, value in zip(every, split.columns[WORDS.name], strict=True):
            scores[np.isnan(scores).any(axis=1)] = certain
            path = best_tags(scores, learnt.labels)
            chosen = np.exp(scores[np.arange(len(path)), path])
            predictions.append(
                _prediction([learnt.labels[each] for each in path], chosen, word_offsets(value))
            )
        return predictions

    def score(
        self, predictions: Sequence[EntitiesPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare entities: one is right where type, first and last word all are."""
        types = entity_types(learnt.labels)
        truth = [set(spans_of(tags)) for tags in tags_of(split)]
        guess = [set(spans_of(prediction.tags)) for prediction in predictions]
        sample = Rows.of(
            hits=_counts((one & other for one, other in zip(truth, guess, strict=True)), types),
            references=_counts(truth, types),
            predictions=_counts(guess, types),
        )
        return score(sample, types, metrics_of(self.answer_kind), self.primary_metric, **options)

    def references(self, split: Split) -> list[list[str]]:
        """Return the IOB2 tags of each row."""
        return [list(tags) for tags in tags_of(split)]

    def record(self, prediction: EntitiesPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return {
            "entities": [
                {"start": each.start, "end": each.end, "label": each.label, "score": each.score}
                for each in prediction.entities
            ],
            "tags": list(prediction.tags),
            "offsets": [list(offset) for offset in prediction.offsets],
        }

    def phrase(self, prediction: EntitiesPrediction) -> str:
        """Return the entities with their places."""
        given = [f"{each.label} {each.start}-{each.end} {each.score:.1%}" for each in prediction.entities]
        return "   ".join(given) or "no entity"

    def decision(self, prediction: EntitiesPrediction) -> tuple[str, ...]:
        """Return the tags."""
        return prediction.tags

    def same_answer(self, predictions: Sequence[EntitiesPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_tag((each.tags for each in predictions), split)
        return ("no entity" if only[0] == OUTSIDE else f"the tag {clip(only[0])}") if only else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[EntitiesPrediction]]:
        """Each word's most frequent tag in train; an ``I-`` that continues nothing begins an entity."""
        return {
            _BASELINE: [
                _prediction(repaired(tags), np.ones(len(tags)), word_offsets(value))
                for tags, value in zip(frequent_tags(train, split), split.columns[WORDS.name], strict=True)
            ]
        }

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        types = ", ".join(f"`{name}`" for name in entity_types(learnt.labels))
        return f"It finds in each text the entities of these types: {types}."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to read the logits with plain transformers."""
        return _USAGE.format(**speaking_words(learnt))


def _prediction(tags: Sequence[str], chosen: NDArray[np.float64], offsets: Offsets) -> EntitiesPrediction:
    """Return the prediction of one row from its tags and the probability of each."""
    entities = tuple(
        Entity(offsets[first][0], offsets[after - 1][1], label, float(chosen[first:after].mean()))
        for label, first, after in spans_of(tags)
    )
    return EntitiesPrediction(entities, tuple(tags), tuple(offsets))


def _counts(rows: Iterable[set[tuple[str, int, int]]], types: Sequence[str]) -> NDArray[np.float64]:
    """Return how many entities of each type each row has [rows, types]."""
    found = list(rows)
    position = {name: index for index, name in enumerate(types)}
    counts = np.zeros((len(found), len(types)))
    for row, spans in enumerate(found):
        for name, _, _ in spans:
            counts[row, position[name]] += 1
    return counts
