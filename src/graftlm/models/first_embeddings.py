"""Embeddings that a new network begins with: not random, but telling in what company each token is found.

Such vectors say after seconds what a network needs many steps to learn (docs/decisions/0026-first-embeddings.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from graftlm.data.corpus.cooccurrence import Cooccurrences

WINDOW_TOKENS = 5
MOST_TOKENS = 10_000_000
_ITERATIONS = 6
_OVERSAMPLING = 10


def begin_embeddings(model: PreTrainedModel, pairs: Cooccurrences, seed: int) -> None:
    """Give the input embeddings of a new network the directions of `company_vectors`; each row keeps its length.

    Rows of tokens that occur nowhere, special ones among them, stay as they are. Output embeddings begin so too where
    they are tied to these, and at random where they are not.

    Args:
        model: new; changed in place.
        pairs: of tokens of the corpus.
        seed: decides what is arbitrary about the vectors.
    """
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    size, width = weight.shape
    vectors = company_vectors(pairs, size, width, seed)
    found = vectors.any(dim=1)
    with torch.no_grad():
        lengths = weight[found].norm(dim=1, keepdim=True)
        weight[found] = functional.normalize(vectors[found]) * lengths


def company_vectors(pairs: Cooccurrences, size: int, width: int, seed: int) -> Tensor:
    """Return a vector for each token; tokens that are found in like company have vectors of like direction.

    The positive pointwise mutual information of two tokens that stand near one another, ``max(0, log(p(a, b) / (p(a)
    p(b))))``, is factored into ``U S V'``, approximately. The vector of a token is its row of ``U sqrt(S)`` (Levy,
    Goldberg and Dagan, "Improving Distributional Similarity with Lessons Learned from Word Embeddings", 2015). The
    first column, which nearly all tokens of a language share, is left out (Mu and Viswanath, "All-but-the-Top", 2018),
    and the vectors are turned at random, so that no feature has more to say than another.

    Args:
        pairs: of tokens.
        size: tokens of the vocabulary.
        width: features of a vector.
        seed: decides the turn; the generators of the caller are left as they were.

    Returns:
        float32 [size, width]; zeros for tokens that occur nowhere.
    """
    information, occurs = _positive_information(pairs, size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        features, strengths = _strongest(information, min(width + 1, size))
        turn, _ = torch.linalg.qr(torch.randn(width, width))
    vectors = torch.zeros(size, width)
    vectors[:, : features.shape[1] - 1] = (features * strengths.sqrt())[:, 1:]
    return torch.where(occurs[:, None], vectors @ turn, 0.0)


def _positive_information(pairs: Cooccurrences, size: int) -> tuple[Tensor, Tensor]:
    """Return a sparse float32 [size, size], symmetric, without the pairs that tell nothing; and which tokens occur."""
    left, right = torch.from_numpy(pairs.left), torch.from_numpy(pairs.right)
    places = torch.stack([torch.cat([left, right]), torch.cat([right, left])])
    counts = torch.from_numpy(pairs.counts).double().repeat(2)
    near = torch.sparse_coo_tensor(places, counts, (size, size), check_invariants=False).coalesce()
    (a, b), together = near.indices(), near.values()
    often = torch.zeros(size, dtype=torch.float64).index_add_(0, a, together)
    information = (together * often.sum() / (often[a] * often[b])).log().float()
    kept = information > 0.0
    sparse = torch.sparse_coo_tensor(
        near.indices()[:, kept], information[kept], (size, size), is_coalesced=True, check_invariants=False
    )
    return sparse, often > 0.0


def _strongest(symmetric: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first singular vectors and values of a sparse matrix, by subspace iteration.

    As Halko, Martinsson and Tropp, "Finding Structure with Randomness", 2011. `torch.svd_lowrank` does as much, but
    sorts a sparse matrix again each time that it turns it round.

    Returns:
        ``U`` [rows, count] and ``S`` [count], which falls.
    """
    basis = torch.randn(len(symmetric), min(count + _OVERSAMPLING, len(symmetric)))
    for _ in range(_ITERATIONS):
        basis, _ = torch.linalg.qr(symmetric @ basis)
        basis = basis.contiguous()  # by columns, as it comes, a sparse product takes ten times as long
    left, strengths, _ = torch.linalg.svd(symmetric @ basis, full_matrices=False)
    return left[:, :count], strengths[:count]
