"""Order, padding and the way back to row order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.networks import network, random_examples

from graftlm.training.batching import Examples, epoch_batches, micro_batches, prediction_batches
from graftlm.training.evaluation import predict_outputs

CPU = torch.device("cpu")


@pytest.mark.parametrize("order", ["shuffled", "length_grouped"])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_an_epoch_visits_every_row_once(seed: int, order: str, count: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, size=count)
    batches = epoch_batches(lengths, 16, order, seed, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert all(len(batch) <= 16 for batch in batches)
    again = epoch_batches(lengths, 16, order, seed, 0)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_epochs_and_seeds_have_their_own_order(seed: int) -> None:
    lengths = np.full(200, 7)
    first = np.concatenate(epoch_batches(lengths, 16, "shuffled", seed, 0))
    assert not np.array_equal(first, np.concatenate(epoch_batches(lengths, 16, "shuffled", seed, 1)))
    assert not np.array_equal(first, np.concatenate(epoch_batches(lengths, 16, "shuffled", seed + 1, 0)))


def test_grouping_by_length_saves_padding(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 200, size=2000)

    def padded(order: str) -> int:
        return sum(
            int(lengths[batch].max()) * len(batch) for batch in epoch_batches(lengths, 16, order, seed, 0)
        )

    assert padded("length_grouped") < 1.15 * lengths.sum() < padded("shuffled")


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_marks_exactly_the_real_tokens(seed: int, side: str) -> None:
    source = random_examples(seed)
    examples = Examples(source.inputs, source.targets, {"input_ids": 99}, side)
    rows = np.array([7, 0, 3])
    batch = examples.batch(rows, CPU)
    for line, row in enumerate(rows):
        ids, mask = batch.inputs["input_ids"][line], batch.inputs["attention_mask"][line].bool()
        assert ids[mask].tolist() == source.inputs["input_ids"][row]
        assert set(ids[~mask].tolist()) <= {99}
    edge = 0 if side == "right" else -1
    assert batch.inputs["attention_mask"][:, edge].tolist() == [1, 1, 1]
    assert batch.num_tokens == int(source.lengths[rows].sum())
    assert batch.targets.tolist() == source.targets[rows].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_and_micro_batches_share_a_step(ranks: int) -> None:
    for count in (1, 2, 7, 16):
        rows = np.arange(count)
        parts = [part for rank in range(ranks) for part in micro_batches(rows, 3, rank, ranks)]
        assert np.array_equal(np.concatenate(parts), rows)
        assert all(0 < len(part) <= 3 for part in parts)


@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_predictions_line_up_with_rows(seed: int, batch_tokens: int) -> None:
    """Whatever the batching does, row i of the result belongs to example i."""
    model, examples = network(seed), random_examples(seed)
    model.eval()
    told: list[int] = []
    result = predict_outputs(model, examples, batch_tokens, CPU, on_batch=told.append)
    with torch.inference_mode():
        alone = np.concatenate(
            [
                model(**examples.batch(np.array([row]), CPU).inputs).logits.numpy()
                for row in range(len(examples))
            ]
        )
    np.testing.assert_allclose(result, alone, atol=1e-6)
    assert sum(told) == len(examples)
    order = np.concatenate(list(prediction_batches(examples.lengths, batch_tokens)))
    assert (np.diff(examples.lengths[order]) <= 0).all(), "longest first: memory runs out at once or never"


@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 5_000])
def test_a_batch_is_as_full_as_its_tokens_allow(batch_tokens: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(0, 60, size=500)
    batches = list(prediction_batches(lengths, batch_tokens))
    assert sorted(np.concatenate(batches)) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(1, lengths[batch].max()) > batch_tokens, "one more would have fitted"


def test_nothing_to_predict(seed: int) -> None:
    empty = Examples({"input_ids": []}, np.zeros(0, dtype=np.int64), {"input_ids": 0})
    assert predict_outputs(network(seed), empty, 4096, CPU) == []
