"""Metrics of sets of labels agree with scikit-learn; thresholds are the best there are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from graftlm.data.dataset import Split
from graftlm.scoring.thresholds import FEWEST_POSITIVE_ROWS, best_thresholds
from graftlm.tasks._task import Learnt
from graftlm.tasks.multi_label_classification import MultiLabelClassification


def sets(matrix, labels):
    return [tuple(label for label, has in zip(labels, row, strict=True) if has) for row in matrix]


def _precision_recall_f1(truth, guess, average):
    if not truth.shape[1]:
        return (0.0, 0.0, 0.0)
    if truth.shape[1] == 1:  # which scikit-learn would take for two classes
        truth, guess, average = truth[:, 0], guess[:, 0], "binary"
    return reference.precision_recall_fscore_support(truth, guess, average=average, zero_division=0)[:3]


@pytest.mark.filterwarnings("ignore:No positive class:UserWarning")
def test_agreement_with_scikit_learn(seed):
    random = np.random.default_rng(seed)
    task = MultiLabelClassification()
    for _ in range(300):
        size, rows = int(random.integers(2, 12)), int(random.integers(1, 40))
        labels = tuple(f"label {index:02}" for index in range(size))
        truth = random.random((rows, size)) < random.random(size)
        probabilities = np.round(random.random((rows, size)), 1)  # many ties
        learnt = Learnt(labels, {"thresholds": random.random(size).tolist()})
        with np.errstate(divide="ignore"):
            outputs = np.log(probabilities) - np.log1p(-probabilities)
        outputs = np.clip(outputs, -50, 50).astype(np.float32)
        split = Split("test", {"labels": sets(truth, labels)}, [str(row) for row in range(rows)])
        predictions = task.decode(outputs, split, None, learnt)
        guess = np.array([[label in each.labels for label in labels] for each in predictions])
        given = np.array([[each.scores[label] for label in labels] for each in predictions])
        assert (guess == (given >= np.array(learnt.rule["thresholds"]))).all()
        ours = {
            name: score.value
            for name, score in task.score(predictions, split, learnt, resamples=1).values.items()
        }
        assert ours["subset_accuracy"] == pytest.approx(reference.accuracy_score(truth, guess))
        occurs = (truth | guess).any(axis=0)
        for average in ("micro", "macro", "weighted"):
            # scikit-learn counts labels that occur nowhere as 0 in the macro average; we leave them out.
            theirs = _precision_recall_f1(truth[:, occurs], guess[:, occurs], average)
            for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                assert ours[f"{name}_{average}"] == pytest.approx(value, abs=1e-12), (name, average)
        known = truth.any(axis=0)
        expected = (
            reference.average_precision_score(truth[:, known], given[:, known], average="macro")
            if known.any()
            else 0
        )
        assert ours["mean_average_precision"] == pytest.approx(expected, abs=1e-12)


def test_thresholds_are_the_best_there_are(seed):
    random = np.random.default_rng(seed)
    for _ in range(50):
        rows = int(random.integers(2 * FEWEST_POSITIVE_ROWS, 60))
        truth = random.random((rows, 2)) < 0.5
        probabilities = np.clip(0.3 * truth + 0.7 * random.random((rows, 2)), 0, 1)
        for label, threshold in enumerate(best_thresholds(truth, probabilities)):
            if truth[:, label].sum() < FEWEST_POSITIVE_ROWS:
                continue
            tried = [
                reference.f1_score(truth[:, label], probabilities[:, label] >= bound, zero_division=0)
                for bound in [0.0, *probabilities[:, label]]
            ]
            ours = reference.f1_score(truth[:, label], probabilities[:, label] >= threshold, zero_division=0)
            assert ours == pytest.approx(max(tried))


def test_rare_labels_share_a_threshold_and_nothing_known_means_one_half():
    truth = np.zeros((40, 3), dtype=bool)
    truth[:20, 0] = True
    truth[:2, 1] = True
    probabilities = np.tile(np.linspace(0.9, 0.1, 40)[:, None], (1, 3))
    first, second, third = best_thresholds(truth, probabilities)
    assert first == pytest.approx(0.5, abs=0.02)
    assert second == third
    assert (best_thresholds(np.zeros((5, 2), dtype=bool), np.full((5, 2), 0.4)) == 0.5).all()


def test_saturated_probabilities_get_a_threshold_all_the_same():
    assert (best_thresholds(np.ones((20, 2), dtype=bool), np.zeros((20, 2))) == 0.5).all()


def test_every_label_is_a_baseline_beside_the_most_frequent_one():
    split = Split("train", {"labels": [("a", "b"), ("a", "c"), ("c",), ("a",)]}, list("1234"))
    task = MultiLabelClassification()
    learnt = task.learn(split)
    baselines = task.baselines(split, split, learnt)
    assert [answers[0].labels for answers in baselines.values()] == [("a",), ("a", "b", "c")]
    f1 = [
        task.score(each, split, learnt, resamples=1).values["f1_micro"].value for each in baselines.values()
    ]
    assert f1 == pytest.approx([0.6, 2 * 6 / (12 + 6)])
