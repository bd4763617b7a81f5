from __future__ import annotations

import numpy as np
import pytest
from tests.rows import first_baseline

from graftlm.data.dataset import Split
from graftlm.data.features import Features
from graftlm.tasks._task import Learnt
from graftlm.tasks.text_classification import TextClassification

NONE = Features({"input_ids": []}, [])


def split(*labels: str) -> Split:
    return Split(
        "train", {"text": ["x"] * len(labels), "label": list(labels)}, [str(i) for i in range(len(labels))]
    )


def test_labels_are_sorted_numbers_by_value() -> None:
    task = TextClassification()
    assert task.learn(split("10", "9", "1", "9")).labels == ("1", "9", "10")
    assert task.learn(split("b", "10", "9", "a")).labels == ("10", "9", "a", "b")
    assert task.learn(split("1", "01", "+1")).labels == ("+1", "01", "1")
    assert task.learn(split("Zoo", "ähre", "ant")).labels == ("Zoo", "ant", "ähre")


def test_probabilities_are_the_softmax_even_of_huge_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=np.float32)
    rows = split("a", "b", "c")
    first, second, third = TextClassification().decode(logits, rows, NONE, Learnt(("a", "b", "c")))
    assert (first.label, first.score) == ("a", 1.0)
    assert (second.label, second.score) == ("a", pytest.approx(1 / 3))  # ties go to the first label
    total = sum(np.exp([1.0, 2.0, 3.0]))
    assert third.scores == pytest.approx({"a": np.e / total, "b": np.e**2 / total, "c": np.e**3 / total})
    assert TextClassification().record(third) == {"label": "c", "score": third.score, "scores": third.scores}


def test_the_baseline_is_the_most_frequent_label_of_train() -> None:
    task, learnt = TextClassification(), Learnt(("a", "b"))
    always = first_baseline(task, split("b", "a", "b"), split("a", "a"), learnt)
    assert [prediction.label for prediction in always] == ["b", "b"]
    (tied,) = first_baseline(task, split("b", "a"), split("a"), learnt)
    assert tied.label == "a"
