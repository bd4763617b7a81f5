"""`graftlm.Trainer` and `transformers.Trainer`: same losses, same weights, same records, same events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.bridges.scripts import Watching, arguments, model, rows, trainer, weights_of

import graftlm

CASES = [
    ("bert", "labels"), ("roberta", "labels"), ("electra", "labels"), ("distilbert", "labels"), ("gpt2", "labels"),
    ("bert", "tags"), ("distilbert", "tags"), ("bert", "spans"), ("roberta", "spans"), ("bert", "label_sets"),
    ("distilbert", "label_sets"), ("bert", "numbers"), ("electra", "numbers"), ("bert", "masked"), ("gpt2", "causal"),
    ("bert", "pairs"), ("bart", "written"),
]  # fmt: skip


def _both(family: str, kind: str, seed: int, tmp_path: Path, more: Any = None, **changes: Any) -> list[Any]:
    found: list[Any] = []
    # With AdamW's usual 1e-8 an entry whose gradient happens to be as small takes a step made of its rounding.
    changes.setdefault("adam_epsilon", 1e-6)
    for cls in (graftlm.Trainer, transformers.Trainer):
        watching = Watching()
        made = trainer(
            cls, model(family, kind, seed), kind, arguments(tmp_path / cls.__module__, **changes), seed,
            callbacks=[watching], **(more or {}),
        )  # fmt: skip
        made.train()
        found += [made, watching]
    return found


def _losses(made: Any) -> list[float]:
    return [record["loss"] for record in made.state.log_history if "loss" in record]


# Weights whose gradient is zero on paper: what is left of it is rounding, and AdamW makes steps of that. A constant
# added to the scores of all tokens changes no probability of a span, nor one added to all keys any attention.
_NOISE = ("key.bias", "k_lin.bias")
_NOISE_OF_SPANS = (*_NOISE, "1.output.LayerNorm.bias", "qa_outputs.bias")


def _same(ours: Any, stock: Any, noise: tuple[str, ...] = _NOISE) -> None:
    np.testing.assert_allclose(_losses(ours), _losses(stock), rtol=1e-6)
    own = weights_of(ours.model)
    for name, theirs in weights_of(stock.model).items():
        if not name.endswith(noise):
            assert torch.allclose(own[name], theirs, rtol=1e-5, atol=1e-5), name
    assert [set(each) for each in ours.state.log_history] == [set(each) for each in stock.state.log_history]
    for one, other in zip(ours.state.log_history, stock.state.log_history, strict=True):
        for key in one.keys() & {"learning_rate", "epoch", "step", "grad_norm", "total_flos"}:
            assert one[key] == pytest.approx(other[key], rel=1e-5), key


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_losses_weights_records_and_events(family: str, kind: str, seed: int, tmp_path: Path) -> None:
    ours, told, stock, stock_told = _both(family, kind, seed, tmp_path, eval_strategy="epoch")
    _same(ours, stock, _NOISE_OF_SPANS if kind == "spans" else _NOISE)
    assert told.events == stock_told.events
    assert not ours.padded_because
    if kind in ("labels", "label_sets", "numbers", "spans"):
        # Eight and five rows: the stock Trainer lets the rows of the short last batch count for more.
        assert ours.evaluate(rows(kind, 1, 8))["eval_loss"] == pytest.approx(
            stock.evaluate(rows(kind, 1, 8))["eval_loss"], rel=1e-5
        )
    theirs, own = stock.predict(rows(kind, 2, 11)), ours.predict(rows(kind, 2, 11))
    if kind == "spans":  # what is added to all scores of a text says nothing
        for one, other in zip(own.predictions, theirs.predictions, strict=True):
            centred = [each - each.mean(axis=1, keepdims=True) for each in (one, other)]
            np.testing.assert_allclose(*centred, atol=1e-4)
        return
    if kind == "written":
        _same_written(ours, own, theirs)
        return
    if kind == "pairs":
        np.testing.assert_allclose(own.predictions[1], theirs.predictions[1], atol=1e-4)
        own, theirs = (
            each._replace(predictions=each.predictions[0], label_ids=each.label_ids[0])
            for each in (own, theirs)
        )
    real = theirs.label_ids != -100 if kind in ("tags", "masked", "causal", "pairs") else slice(None)
    np.testing.assert_allclose(own.predictions[real], theirs.predictions[real], atol=1e-4)
    np.testing.assert_array_equal(own.label_ids, theirs.label_ids)


def _same_written(ours: Any, own: Any, theirs: Any) -> None:
    """Logits of what is written, and what the encoder said of what it read, alike where nothing is padding."""
    real = theirs.label_ids != -100
    np.testing.assert_allclose(own.predictions[0][real], theirs.predictions[0][real], atol=1e-4)
    assert own.predictions[1].shape == theirs.predictions[1].shape
    first = slice(None), 0  # a first token is never padding
    np.testing.assert_allclose(own.predictions[1][first], theirs.predictions[1][first], atol=1e-4)
