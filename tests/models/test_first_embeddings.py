"""Embeddings of company, beside the formula on dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.pretraining_objectives.corpora import corpus_of

from graftlm.data.corpus.cooccurrence import Cooccurrences, cooccurrences
from graftlm.models.architectures import architecture
from graftlm.models.first_embeddings import begin_embeddings, company_vectors
from graftlm.models.new_model import new_model

SIZE, UNSEEN = 40, 5


def _pairs(seed: int) -> Cooccurrences:
    """Return pairs of a corpus whose tokens from ``UNSEEN`` on have tastes of their own."""
    random = np.random.default_rng(seed)
    tastes = random.dirichlet(np.full(SIZE - UNSEEN, 0.3), size=6)
    documents = [[(random.choice(SIZE - UNSEEN, 200, p=tastes[n % 6]) + UNSEEN).tolist()] for n in range(24)]
    return cooccurrences(corpus_of(documents), 3, 10**9)


def _information(pairs: Cooccurrences) -> np.ndarray[Any, Any]:
    counts = np.zeros((SIZE, SIZE))
    for left, right, count in zip(pairs.left, pairs.right, pairs.counts, strict=True):
        counts[left, right] += count
        counts[right, left] += count
    return _information_of(counts)


def _information_of(counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    alone = counts.sum(0) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.maximum(np.log(counts / counts.sum() / np.outer(alone, alone)), 0.0), nan=0.0)


def _embeddings(model: Any) -> torch.Tensor:
    return model.get_input_embeddings().weight.detach()


def test_products_of_vectors_are_those_of_the_factored_information(seed: int) -> None:
    pairs = _pairs(seed)
    left, strengths, _ = np.linalg.svd(_information(pairs))
    wanted = (left[:, 1:] * strengths[1:]) @ left[:, 1:].T
    vectors = company_vectors(pairs, SIZE, SIZE, seed).double().numpy()
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-4)
    assert not vectors[:UNSEEN].any()


def test_the_strongest_directions_are_kept_and_a_wide_network_has_room_left(seed: int) -> None:
    pairs = _pairs(seed)
    whole = company_vectors(pairs, SIZE, SIZE, 1).double()
    kept = torch.linalg.svdvals(company_vectors(pairs, SIZE, 4, 1).double())
    torch.testing.assert_close(kept, torch.linalg.svdvals(whole)[:4], rtol=0.01, atol=1e-6)
    wide = company_vectors(pairs, SIZE, SIZE + 30, 1).double()
    torch.testing.assert_close(wide @ wide.T, whole @ whole.T, rtol=0, atol=1e-4)


def test_values_that_hardly_fall_are_found_with_either_sign(seed: int) -> None:
    draw, size, width = np.random.default_rng(seed), 600, 64
    left, right = np.unique(draw.integers(0, size, (30_000, 2)), axis=0).T
    pairs = Cooccurrences(left, right, draw.integers(1, 4, len(left)))
    counts = np.zeros((size, size))
    counts[left, right] = pairs.counts
    counts += counts.T
    wanted = np.linalg.eigvalsh(_information_of(counts))
    assert (wanted < 0).mean() > 0.4
    wanted = np.sort(np.abs(wanted))[::-1][1 : width + 1]
    found = torch.linalg.svdvals(company_vectors(pairs, size, width, seed).double()).numpy() ** 2
    np.testing.assert_allclose(found, wanted, rtol=0.12)


def test_no_feature_has_more_to_say_than_another(seed: int) -> None:
    spread = company_vectors(_pairs(seed), SIZE, 16, seed).pow(2).mean(0)
    assert spread.max() < 12 * spread.min(), "one by one the columns of U sqrt(S) fall to nothing"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("bert-tiny", "AutoModelForMaskedLM"),
        ("electra-tiny", "AutoModelForPreTraining"),
        ("modernbert-mini", "AutoModelForMaskedLM"),
        ("llama-mini", "AutoModelForCausalLM"),
        ("t5-tiny", "AutoModelForSeq2SeqLM"),
    ],
)
def test_rows_turn_and_keep_their_length(name: str, head: str) -> None:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = architecture(name, SIZE, 32, special, None)
    pairs, before = _pairs(3), new_model(config, head, 7)
    state = torch.random.get_rng_state()
    after = new_model(config, head, 7)
    begin_embeddings(after, pairs, 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    old, new = (_embeddings(model) for model in (before, after))
    torch.testing.assert_close(new.norm(dim=1), old.norm(dim=1))
    assert (
        torch.equal(new[:UNSEEN], old[:UNSEEN]) and not torch.isclose(new[UNSEEN:], old[UNSEEN:]).all(1).any()
    )
    wanted = company_vectors(pairs, len(new), new.shape[1], 7)[UNSEEN:]
    assert torch.cosine_similarity(new[UNSEEN:], wanted).min() > 0.9999
    others = {
        key for key, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[key])
    }
    assert {after.state_dict()[key].data_ptr() for key in others} == {new.data_ptr()}
