"""What tasks with a tag for each word have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED, Encoder, Features, Outputs
from graftlm.data.roles import WORDS
from graftlm.data.words import words_of
from graftlm.tasks._same_answer import only_answer
from graftlm.tasks._task import SPEAKING, Learnt

Tags = Sequence[str]


def encode_words(split: Split, encoder: Encoder) -> Features:
    """Tokenise the words of each row, in overlapping windows where they exceed the limit."""
    return encoder.words([words_of(value) for value in split.columns[WORDS.name]])


def tags_of(split: Split) -> list[Tags]:
    """Return the tags of each row."""
    return cast("list[Tags]", split.columns["tags"])


def tag_options(labels: Sequence[str]) -> dict[str, Any]:
    """Return head size and label names as transformers' config spells them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def tag_targets(split: Split, features: Features, labels: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return for each example the tag positions [tokens]; tokens that answer for no word are ignored."""
    position = {label: index for index, label in enumerate(labels)}
    rows = [np.array([position[tag] for tag in tags], dtype=np.int64) for tags in tags_of(split)]
    targets: list[NDArray[np.int64]] = []
    for row, words in zip(features.rows, features.words, strict=True):
        known = np.full(len(words), IGNORED, dtype=np.int64)
        known[words >= 0] = rows[row][words[words >= 0]]
        targets.append(known)
    return targets


def speaking_words(learnt: Learnt) -> dict[str, str]:
    """Return which token of a word answers for it, and what tells it in a list ``words`` of the word of each token."""
    side = learnt.rule.get(SPEAKING, "first")
    return {"side": side, "beside": "[None, *words]" if side == "first" else "[*words[1:], None]"}


def word_log_probabilities(
    outputs: Outputs, split: Split, features: Features, num_labels: int
) -> list[NDArray[np.float64]]:
    """Return the log-softmax of each word of each row, [words, labels]; NaN where a word has no token at all."""
    rows = [np.full((len(words_of(value)), num_labels), np.nan) for value in split.columns[WORDS.name]]
    for row, words, logits in zip(features.rows, features.words, outputs, strict=True):
        answering = words >= 0
        chosen = np.asarray(logits, dtype=np.float64)[answering]
        shifted = chosen - chosen.max(axis=1, keepdims=True)
        rows[row][words[answering]] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return rows


def frequent_tags(train: Split, split: Split) -> list[list[str]]:
    """Return for each word the tag it has most often in train; for a word never seen there the most frequent tag."""
    counts: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for value, tags in zip(train.columns[WORDS.name], tags_of(train), strict=True):
        every.update(tags)
        for word, tag in zip(words_of(value), tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    usual = {word: _most(seen) for word, seen in counts.items()}
    other = _most(every)
    return [[usual.get(word, other) for word in words_of(value)] for value in split.columns[WORDS.name]]


def only_tag(given: Iterable[Tags], split: Split) -> tuple[str, ...]:
    """Return the one tag that every word is given where the rows have several; nothing otherwise."""
    return only_answer(chain.from_iterable(given), chain.from_iterable(tags_of(split)))


def most_frequent_tag(train: Split) -> str:
    """Return the most frequent tag of train; of equally frequent ones the first by name."""
    return _most(Counter(tag for tags in tags_of(train) for tag in tags))


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda tag: (-counts[tag], tag))
