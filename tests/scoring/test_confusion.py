from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from graftlm.errors import DataError
from graftlm.scoring.confusion import Confusion, count


def test_rows_are_references():
    assert count([0, 0, 1], [0, 2, 1], 3).matrix().tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert count([0], [0], 1).matrix().dtype == np.int64


def test_agrees_with_scikit_learn_and_its_margins():
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    random = np.random.default_rng(seed)
    for size in (2, 5, 40):
        truth, guess = random.integers(0, size, 300), random.integers(0, size, 300)
        dense = confusion_matrix(truth, guess, labels=range(size))
        confusion = count(truth, guess, size)
        assert (confusion.matrix() == dense).all()
        assert (confusion.references == dense.sum(axis=1)).all()
        assert (confusion.predictions == dense.sum(axis=0)).all()
        assert (confusion.hits == np.diag(dense)).all()
        assert confusion.rows == 300


def test_resamples_have_margins_of_their_own():
    confusion = count([0, 0, 1], [0, 1, 1], 2)
    many = Confusion(confusion.reference, confusion.predicted, np.array([[1, 2, 3], [0, 0, 5]]), 2)
    assert many.matrix().tolist() == [[[1, 2], [0, 3]], [[0, 0], [0, 5]]]
    assert many.hits.tolist() == [[1, 3], [0, 5]]
    assert many.predictions.tolist() == [[1, 5], [0, 5]]


def test_drawn_rows_are_rows_of_the_sample():
    confusion = count([0, 0, 1, 2], [0, 1, 1, 2], 3)
    drawn = confusion.draw(np.random.default_rng(0), 50)
    assert drawn.matrix().shape == (50, 3, 3)
    assert (drawn.rows == 4).all()
    assert (drawn.matrix()[:, confusion.matrix() == 0] == 0).all()


@pytest.mark.parametrize(
    ("truth", "guess", "message"),
    [
        ([], [], "there are no rows to score"),
        ([0, 1], [0], "2 references but 1 predictions"),
        ([0, 3], [0, 0], "row 2: references: 3 is not one of 2 labels (1 rows)"),
        ([0, 0], [-1, -1], "row 1: predictions: -1 is not one of 2 labels (2 rows)"),
        ([0.5], [0], "references must be one label index per row"),
        ([[0]], [0], "references must be one label index per row"),
    ],
)
def test_refusals(truth, guess, message):
    with pytest.raises(DataError) as caught:
        count(truth, guess, 2)
    assert message in str(caught.value)
