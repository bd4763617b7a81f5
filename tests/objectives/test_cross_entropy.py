from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from graftlm.errors import ConfigurationError
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.recipe import load_recipe


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 2e-5)])
def test_value_and_gradient_are_those_of_torch(seed: int, dtype: torch.dtype, tolerance: float) -> None:
    source = random.Random(seed)
    for _ in range(20):
        rows, classes = source.randint(1, 40), source.randint(2, 9)
        generator = torch.Generator().manual_seed(source.getrandbits(32))
        logits = 4 * torch.randn(rows, classes, generator=generator, dtype=dtype)
        targets = torch.randint(classes, (rows,), generator=generator)
        labels = [f"l{index}" for index in range(classes)]
        weights = {label: source.uniform(0.1, 5.0) for label in labels}
        smoothing = source.choice([0.0, source.random() * 0.9])
        chosen = source.choice(["none", weights])
        loss = CrossEntropy(class_weights=chosen, label_smoothing=smoothing).bind(targets.numpy(), labels)
        reference = torch.nn.CrossEntropyLoss(
            weight=None if chosen == "none" else torch.tensor(list(weights.values()), dtype=dtype),
            label_smoothing=smoothing,
        )
        one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        (term,) = loss.terms(one, targets)
        ours, theirs = term.total / loss.weights(targets)["cross_entropy"], reference(other, targets)
        ours.backward()
        theirs.backward()
        assert ours.item() == pytest.approx(theirs.item(), rel=tolerance)
        torch.testing.assert_close(one.grad, other.grad, rtol=tolerance, atol=tolerance / 10)


def test_balanced_weights_are_those_of_scikit_learn(seed: int) -> None:
    random_state = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(6), random_state.integers(0, 6, size=200)]).astype(np.int64)
    loss = CrossEntropy(class_weights="balanced").bind(targets, list("abcdef"))
    expected = compute_class_weight("balanced", classes=np.arange(6), y=targets)
    assert loss.class_weights is not None
    np.testing.assert_allclose(loss.class_weights.numpy(), expected, rtol=1e-6)
    # Balanced weights of all training rows sum to the number of rows.
    assert loss.weights(torch.from_numpy(targets))["cross_entropy"] == pytest.approx(206, rel=1e-6)


def test_weights_are_given_to_the_labels_by_name() -> None:
    loss = CrossEntropy(class_weights={"b": 2.0, "a": 3.0}).bind(np.array([0, 1]), ["a", "b"])
    assert loss.class_weights is not None
    assert loss.class_weights.tolist() == [3.0, 2.0]


def test_weights_for_other_labels_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CrossEntropy(class_weights={"good": 1.0, "bat": 2.0}).bind(np.array([0, 1]), ["bad", "good"])
    assert str(caught.value) == (
        "objective.class_weights: weights are needed for exactly the labels bad, good; unknown: ['bat'], "
        "missing: ['bad']. Did you mean 'bad'?"
    )


@pytest.mark.parametrize(
    "word",
    ["objective.label_smoothing=1", "objective.label_smoothing=-0.1", "objective.class_weights=all",
     "objective.class_weights={a: 0}", "objective.class_weights={a: -1}"],
)  # fmt: skip
def test_impossible_options_are_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=word.partition("=")[0]):
        load_recipe(None, [word])
