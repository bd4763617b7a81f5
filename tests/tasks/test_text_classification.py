from __future__ import annotations

import numpy as np
import pytest

from graftlm.data.dataset import Split
from graftlm.tasks.text_classification import TextClassification


def split(*labels: str) -> Split:
    return Split(
        "train", {"text": ["x"] * len(labels), "label": list(labels)}, [str(i) for i in range(len(labels))]
    )


def test_labels_are_sorted_numbers_by_value() -> None:
    task = TextClassification()
    assert task.label_names(split("10", "9", "1", "9")) == ("1", "9", "10")
    assert task.label_names(split("b", "10", "9", "a")) == ("10", "9", "a", "b")
    assert task.label_names(split("1", "01", "+1")) == ("+1", "01", "1")
    assert task.label_names(split("Zoo", "ähre", "ant")) == ("Zoo", "ant", "ähre")


def test_probabilities_are_the_softmax_even_of_huge_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=np.float32)
    first, second, third = TextClassification().decode(logits, ("a", "b", "c"))
    assert (first.label, first.score) == ("a", 1.0)
    assert (second.label, second.score) == ("a", pytest.approx(1 / 3))  # ties go to the first label
    total = sum(np.exp([1.0, 2.0, 3.0]))
    assert third.scores == pytest.approx({"a": np.e / total, "b": np.e**2 / total, "c": np.e**3 / total})
    assert TextClassification().record(third) == {"label": "c", "score": third.score, "scores": third.scores}


def test_the_baseline_is_the_most_frequent_label_of_train() -> None:
    logits = TextClassification().baseline(split("b", "a", "b"), split("a", "a"), ("a", "b"))
    assert logits.argmax(axis=1).tolist() == [1, 1]
    tied = TextClassification().baseline(split("b", "a"), split("a"), ("a", "b"))
    assert tied.argmax(axis=1).tolist() == [0]
