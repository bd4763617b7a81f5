"""Metrics of entities agree with seqeval, those of tags with scikit-learn; intervals are over rows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
from seqeval.metrics.v1 import precision_recall_fscore_support as strict
from seqeval.scheme import IOB2, IOBES
from sklearn import metrics as reference

from graftlm.data.dataset import Split
from graftlm.data.tag_schemes import repaired, spans_of
from graftlm.tasks._task import Learnt
from graftlm.tasks.token_classification import EntitiesPrediction, TokenClassification
from graftlm.tasks.word_tagging import TagsPrediction, WordTagging

TYPES = ("LOC", "ORG", "creative-work")


def bioes(tags):
    """The same entities with ends."""
    result = ["O"] * len(tags)
    for kind, first, after in spans_of(tags):
        result[first:after] = [f"{mark}-{kind}" for mark in "B" + "I" * (after - first - 2) + "E"][
            : after - first
        ]
        if after - first == 1:
            result[first] = f"S-{kind}"
    return result


def sequence(source, length, types):
    tags = ["O", "O", *(f"{mark}-{kind}" for kind in types for mark in "BI")]
    return repaired(source.choices(tags, k=length))


def changed(source, tags, types):
    """Tags that share some entities with the given ones."""
    other = sequence(source, len(tags), types)
    keep = source.random()
    return repaired([one if source.random() < keep else two for one, two in zip(tags, other, strict=True)])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agreement_with_seqeval_in_both_modes(seed):
    """Tags of ours are always valid, so the lenient reading (conlleval) and the strict one are the same number."""
    source = random.Random(seed)
    task = TokenClassification()
    learnt = Learnt(("O", *(f"{mark}-{kind}" for mark in "BI" for kind in TYPES)))
    for _ in range(1_000):
        types = source.sample(TYPES, source.randint(1, 3))
        truth = [sequence(source, source.randint(1, 9), types) for _ in range(source.randint(1, 6))]
        guess = [changed(source, tags, source.sample(TYPES, 2)) for tags in truth]
        if not any(spans_of(tags) for tags in (*truth, *guess)):
            continue
        split = Split(
            "test", {"tokens": [("w",) * len(tags) for tags in truth], "tags": [*truth]}, ["r"] * len(truth)
        )
        predictions = [EntitiesPrediction((), tags, ()) for tags in guess]
        ours = {
            name: score.value
            for name, score in task.score(predictions, split, learnt, resamples=1).values.items()
        }
        lists = [[list(tags) for tags in rows] for rows in (truth, guess)]
        ended = [[bioes(tags) for tags in rows] for rows in (truth, guess)]
        for average in ("micro", "macro", "weighted"):
            for theirs in (
                lenient(*lists, average=average),
                strict(*lists, average=average, scheme=IOB2),
                strict(*ended, average=average, scheme=IOBES),
            ):
                for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                    assert ours[f"{name}_{average}"] == pytest.approx(value, abs=1e-12), (name, average)
        found = sorted({kind for tags in (*truth, *guess) for kind, _, _ in spans_of(tags)})
        for name, values in zip(("precision", "recall", "f1"), lenient(*lists), strict=False):
            for kind, value in zip(found, values, strict=True):
                assert ours[f"{name}[{kind}]"] == pytest.approx(value, abs=1e-12)


def test_agreement_with_scikit_learn_word_by_word(seed):
    random = np.random.default_rng(seed)
    task = WordTagging()
    for _ in range(200):
        labels = tuple(f"tag {index:02}" for index in range(int(random.integers(2, 12))))
        truth = [tuple(random.choice(labels, size)) for size in random.integers(1, 9, size=5)]
        guess = [tuple(random.choice(labels[: len(labels) // 2 + 1], len(tags))) for tags in truth]
        split = Split("test", {"tokens": [("w",) * len(tags) for tags in truth], "tags": [*truth]}, ["r"] * 5)
        predictions = [TagsPrediction(tags, (), ()) for tags in guess]
        scores = task.score(predictions, split, Learnt(labels), resamples=1)
        one, other = [np.concatenate(rows) for rows in (truth, guess)]
        ours = {name: score.value for name, score in scores.values.items()}
        assert ours["accuracy"] == pytest.approx(reference.accuracy_score(one, other))
        for average in ("micro", "macro", "weighted"):
            theirs = reference.precision_recall_fscore_support(one, other, average=average, zero_division=0)
            for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                assert ours[f"{name}_{average}"] == pytest.approx(value, abs=1e-12)


def test_intervals_are_over_rows_not_words():
    """One row with every mistake: a resample has it or not, so the interval is far wider than that of 400 words."""
    split = Split("test", {"tokens": [("w",) * 100] * 4, "tags": [("a",) * 100] * 4}, ["r"] * 4)
    predictions = [TagsPrediction((tag,) * 100, (), ()) for tag in "aaab"]
    score = WordTagging().score(predictions, split, Learnt(("a", "b")), resamples=2_000).headline
    assert score.value == 0.75
    assert (score.low, score.high) == (0.25, 1.0)
