"""Contract of every metric, and agreement with scikit-learn on random data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from graftlm.catalog import Catalog
from graftlm.scoring.confusion import count
from graftlm.scoring.generated_texts import GeneratedTexts
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.sample import Rows

NAMES = Catalog("metrics").names()
SAMPLES = {
    "labels": count([0, 1, 2, 2], [0, 1, 1, 2], 3),
    "label_sets": Rows.of(
        references=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]) > 0,
        predictions=np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]]) > 0,
        hits=np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]) > 0,
        exact=np.array([0.0, 0, 1, 1]),
        scores=np.array([[0.9, 0.4, 0.1], [0.2, 0.8, 0.6], [0.1, 0.1, 0.1], [0.7, 0.4, 0.9]]),
    ),
    "numbers": Rows.of(reference=np.array([1.0, 2, 2, 5]), prediction=np.array([1.5, 1.5, 2.5, 4])),
    "answers": Rows.of(
        exact_match=np.array([1.0, 0, 0, 1]),
        f1=np.array([1.0, 0.5, 0, 1]),
        answerable=np.array([1.0, 1, 0, 0]),
    ),
}
SAMPLES["tags"] = SAMPLES["spans"] = SAMPLES["label_sets"]
SAMPLES["texts"] = SAMPLES["replies"] = GeneratedTexts.compare(
    ["a cat", "", "one more cat"], ["a cat", "a dog", "a cat"], "english",
    [False, True, False], np.array([-1.0, -2, -3]), np.array([2.0, 2, 3]),
)  # fmt: skip


def values(truth, guess, size):
    confusion = count(truth, guess, size)
    labels = [f"label {index}" for index in range(size)]
    return {
        key: value
        for metric in metrics_of("labels")
        for key, value in metric.values(confusion, labels).items()
    }


def test_every_task_has_metrics():
    assert {metric.name for metric in metrics_of("labels")} == {
        "accuracy", "f1", "matthews_correlation", "precision", "recall",
    }  # fmt: skip
    assert {kind for name in NAMES for kind in Catalog("metrics").get(name).kinds} <= set(SAMPLES)
    for name in Catalog("tasks").names():
        task = Catalog("tasks").get(name)
        assert check_primary(task().primary_metric, task.answer_kind)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    metric = Catalog("metrics").get(name)()
    assert metric.name == name
    for kind in metric.kinds:
        sample, labels = SAMPLES[kind], ["a", "b", "c"]
        alone = metric.values(sample, labels)
        assert metric.directions.keys() <= alone.keys()
        many = sample.draw(np.random.default_rng(0), 5)
        assert {value.shape for value in metric.values(many, labels).values()} == {(5,)}


def test_drawn_weights_give_what_repeated_rows_give():
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    random = np.random.default_rng(seed)
    for kind in ("label_sets", "numbers", "answers", "spans", "tags"):
        sample = SAMPLES[kind]
        many = sample.draw(random, 40)
        for draw, weights in enumerate(many.weights.astype(int)):
            repeated = Rows.of(
                **{name: np.repeat(values, weights, axis=0) for name, values in sample.columns.items()}
            )
            for metric in metrics_of(kind):
                one, other = metric.values(many, list("abc")), metric.values(repeated, list("abc"))
                # Where a draw holds no question without an answer, rows without one have no values of their own.
                assert kind == "answers" or one.keys() == other.keys()
                for name, value in ((name, one[name]) for name in other):
                    np.testing.assert_allclose(value[draw], other[name], atol=1e-12, err_msg=name)


def expected(truth, guess, size):
    labels = [f"label {index}" for index in range(size)]
    found = {
        "accuracy": reference.accuracy_score(truth, guess),
        "matthews_correlation": reference.matthews_corrcoef(truth, guess),
    }
    for average in ("macro", "micro", "weighted", None):
        scores = reference.precision_recall_fscore_support(
            truth,
            guess,
            average=average,
            labels=range(size) if average is None else None,
            zero_division=0,
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            if average is None:
                found |= {f"{name}[{label}]": score[index] for index, label in enumerate(labels)}
            else:
                found[f"{name}_{average}"] = score
    return found


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_agreement_with_scikit_learn():
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    random = np.random.default_rng(seed)
    kinds = set()
    for _ in range(1_000):
        size, rows = int(random.integers(2, 31)), int(random.integers(1, 60))
        # Few of the labels occur, often only one, so that the undefined cases are met.
        used = random.choice(size, int(random.integers(1, size + 1)), replace=False)
        truth = random.choice(used, rows)
        guess = np.where(random.random(rows) < random.random(), truth, random.integers(0, size, rows))
        if random.random() < 0.1:
            guess = np.full(rows, guess[0])
        ours, theirs = values(truth, guess, size), expected(truth, guess, size)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            # NaN is our "says nothing"; a score reports it as 0, scikit-learn's convention.
            np.testing.assert_allclose(np.nan_to_num(ours[name]), value, rtol=0, atol=1e-12, err_msg=name)
        kinds |= {"one class"} if len(set(truth)) == 1 else set()
        kinds |= {"constant answer"} if len(set(guess)) == 1 else set()
        kinds |= {"label missing"} if len({*truth, *guess}) < size else set()
    assert kinds == {"one class", "constant answer", "label missing"}


def test_matthews_correlation_does_not_overflow():
    rows = 3_000_000
    truth = np.arange(rows) % 2
    guess = np.where(np.arange(rows) % 10 == 0, 1 - truth, truth)
    assert values(truth, guess, 2)["matthews_correlation"] == pytest.approx(
        reference.matthews_corrcoef(truth, guess), abs=1e-12
    )


def test_undefined_is_told_from_zero():
    found = values([0, 0, 1], [0, 0, 0], 3)
    assert found["recall[label 1]"] == 0 and found["precision[label 1]"] == 0
    assert np.isnan(found["recall[label 2]"])
    assert found["matthews_correlation"] == 0
    assert np.isnan(values([0, 0], [0, 0], 2)["matthews_correlation"])


def test_f1_macro_is_the_mean_of_f1_not_the_f1_of_means():
    found = values([0, 0, 0, 1], [0, 1, 1, 1], 2)
    assert found["f1_macro"] == pytest.approx((0.5 + 0.5) / 2)
    precision, recall = found["precision_macro"], found["recall_macro"]
    assert 2 * precision * recall / (precision + recall) == pytest.approx(2 / 3)
