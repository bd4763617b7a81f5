from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels.random_bits import bases_of, starts_of
from torch import Tensor
from torch.nn import functional

from graftlm.kernels import variable_length_attention
from graftlm.kernels.library import Library
from graftlm.kernels.masks import kept_factor, kept_keys


@dataclass(frozen=True)
class Batch:
    query: Tensor
    key: Tensor
    value: Tensor
    starts: Tensor
    bases: Tensor
    key_starts: Tensor | None = None

    def attend(self, **options: Any) -> Tensor:
        tensors = (self.query, self.key, self.value, self.starts)
        options = {"scale": 0.3, "key_starts": self.key_starts, **options}
        return variable_length_attention(*tensors, bases=self.bases, **options)

    def gradients(self, output: Tensor, of_output: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(output, (self.query, self.key, self.value), of_output)

    def double(self) -> Batch:
        wide = (tensor.detach().double().requires_grad_() for tensor in (self.query, self.key, self.value))
        return Batch(*wide, self.starts, self.bases, self.key_starts)


def _batch(
    seed: int, lengths: list[int], heads: int = 4, key_heads: int = 4, width: int = 8, value_width: int = 8
) -> Batch:
    torch.manual_seed(seed)
    tokens = sum(lengths)
    shapes = ((heads, width), (key_heads, width), (key_heads, value_width))
    tensors = (torch.randn(tokens, *shape, requires_grad=True) for shape in shapes)
    return Batch(*tensors, starts_of(lengths), bases_of(seed, lengths))


def _apart(seed: int, lengths: list[int], key_lengths: list[int], width: int = 8) -> Batch:
    """Queries and keys of their own."""
    torch.manual_seed(seed)
    query = torch.randn(sum(lengths), 4, width, requires_grad=True)
    key, value = (torch.randn(sum(key_lengths), 2, width, requires_grad=True) for _ in range(2))
    return Batch(query, key, value, starts_of(lengths), bases_of(seed, lengths), starts_of(key_lengths))


def _assert_as_in_float64(batch: Batch, **options: Any) -> None:
    """Kernel against torch in double precision; the bound is some 100 roundings of float32 at the largest number:

    gradients of scores are differences of inner products of up to 40 terms, each of size one.
    """
    exact = batch.double()
    output, expected = batch.attend(**options), exact.attend(**options)
    assert output.dtype == torch.float32 and expected.dtype == torch.float64
    of_output = torch.randn_like(output)
    pairs = [(output, expected)]
    pairs += zip(
        batch.gradients(output, of_output), exact.gradients(expected, of_output.double()), strict=True
    )
    for found, wanted in pairs:
        torch.testing.assert_close(
            found.double(), wanted, rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item())
        )


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("window", [None, 1, 5, 40, 280, 1000, 2**63 - 1])
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_against_double_precision(
    causal: bool, window: int | None, dropout: float, kernels: Library, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    heads, key_heads = [(4, 4), (6, 2), (3, 1), (1, 1)][chance.integers(4)]
    width, value_width = (int(number) for number in chance.integers(1, 40, 2))
    lengths = [1, *(int(length) for length in chance.integers(0, 70, 4)), 150, 300]
    print(heads, key_heads, width, value_width, lengths)
    batch = _batch(seed, lengths, heads, key_heads, width, value_width)
    _assert_as_in_float64(batch, causal=causal, window=window, dropout=dropout)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_keys_apart_from_queries(dropout: float, kernels: Library, seed: int) -> None:
    chance = np.random.default_rng(seed)
    lengths = [1, 0, *(int(length) for length in chance.integers(0, 40, 4)), 150]
    key_lengths = [300, 7, *(int(length) for length in chance.integers(1, 80, 4)), 1]
    print(lengths, key_lengths)
    _assert_as_in_float64(_apart(seed, lengths, key_lengths), dropout=dropout)
    _assert_as_in_float64(_apart(seed, [1] * 5, [3, 50, 1, 700, 16]), dropout=dropout)


@pytest.mark.parametrize("switch", ["on", "off"])
def test_keys_without_queries_have_no_gradient(
    switch: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", switch)
    for lengths, key_lengths in (([0, 2, 0], [3, 4, 0]), ([0, 0], [2, 1])):
        batch = _apart(seed, lengths, key_lengths)
        output = batch.attend(dropout=0.1)
        of_query, of_key, of_value = batch.gradients(output, torch.ones_like(output))
        assert of_query.shape == batch.query.shape
        seen = torch.repeat_interleave(torch.tensor(lengths) > 0, torch.tensor(key_lengths))
        for gradient in (of_key, of_value):
            assert gradient.shape == batch.key.shape and not gradient[~seen].any()


def test_a_query_alone_drops_as_among_its_neighbours(seed: int) -> None:
    """The first tokens by themselves attend as they do when all tokens ask."""
    lengths = [4, 60, 1, 33]
    batch = _batch(seed, lengths)
    whole, first = batch.attend(dropout=0.3), batch.starts[:-1]
    alone = variable_length_attention(
        batch.query[first], batch.key, batch.value, starts_of([1] * 4), scale=0.3, dropout=0.3,
        bases=batch.bases[first], key_starts=batch.starts,
    )  # fmt: skip
    torch.testing.assert_close(alone, whole[first], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 30}])
def test_long_sequences_are_treated_in_blocks(options: dict[str, Any], kernels: Library, seed: int) -> None:
    _assert_as_in_float64(_batch(seed, [700, 129], 2, 1, 16, 16), dropout=0.1, **options)


def test_views_are_read_where_they_are(kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    lengths = [5, 1, 30]
    fused = torch.randn(36, 3, 4, 8)
    heads_first = torch.randn(4, 36, 8)
    repeated = torch.randn(1, 4, 8).expand(36, 4, 8)
    features_apart = torch.randn(36, 4, 16)[..., ::2]
    views = [*fused.unbind(1), heads_first.transpose(0, 1), repeated, features_apart]
    for _ in range(6):
        chosen = [views[index].detach().requires_grad_() for index in torch.randint(len(views), (3,))]
        _assert_as_in_float64(Batch(*chosen, starts_of(lengths), bases_of(seed, lengths)), dropout=0.1)


@pytest.mark.parametrize("length", [1, 17, 200, 521])
def test_the_kernel_drops_what_the_formula_says(length: int, kernels: Library, seed: int) -> None:
    """Equal scores and values that are unit vectors show the probabilities themselves."""
    lengths, heads = [3, length], 2
    bases = bases_of(seed, lengths)
    alike = torch.zeros(sum(lengths), heads, 4)
    units = torch.zeros(sum(lengths), heads, length)
    units[3:] = torch.eye(length)[:, None]
    output = variable_length_attention(
        alike, alike, units, starts_of(lengths), scale=1.0, dropout=0.4, bases=bases
    )
    kept = kept_keys(bases[3:], heads, length, 0.4).transpose(0, 1)
    torch.testing.assert_close(output[3:], kept * kept_factor(0.4) / length, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_split_of_a_batch_changes_nothing(dropout: float, seed: int) -> None:
    lengths = [4, 60, 1, 33]
    batch = _batch(seed, lengths)
    whole = batch.attend(dropout=dropout)
    for index, length in enumerate(lengths):
        part = slice(int(batch.starts[index]), int(batch.starts[index + 1]))
        tensors = (batch.query[part], batch.key[part], batch.value[part], starts_of([length]))
        bases = bases_of(seed, [length], rows=[index])
        alone = variable_length_attention(*tensors, scale=0.3, dropout=dropout, bases=bases)
        torch.testing.assert_close(alone, whole[part], rtol=1e-5, atol=1e-6)


def test_threads_change_no_bit(kernels: Library, seed: int) -> None:
    batch = _batch(seed, [1, 40, 300, 7, 150], 4, 2, 16, 16)
    of_output = torch.randn(498, 4, 16)

    def computed() -> list[Tensor]:
        output = batch.attend(dropout=0.1)
        return [output, *batch.gradients(output, of_output)]

    single = computed()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert all(torch.equal(one, other) for one, other in zip(computed(), single, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 2}])
def test_derivatives_in_torch(options: dict[str, Any], biased: bool, dropout: float, seed: int) -> None:
    batch = _batch(seed, [1, 4, 0, 2, 4], 2, 1, 3, 2).double()
    bias = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True) if biased else None

    def function(*inputs: Tensor | None) -> Tensor:
        *tensors, added = inputs
        return variable_length_attention(
            *tensors, batch.starts, scale=0.7, dropout=dropout, bases=batch.bases, bias=added, **options
        )

    assert torch.autograd.gradcheck(function, (batch.query, batch.key, batch.value, bias))


def test_derivatives_in_torch_with_keys_apart(seed: int) -> None:
    batch = _apart(seed, [1, 3, 0, 3, 2], [2, 5, 1, 5, 1], width=3).double()

    def function(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return Batch(query, key, value, batch.starts, batch.bases, batch.key_starts).attend(dropout=0.3)

    assert torch.autograd.gradcheck(function, (batch.query, batch.key, batch.value))


def test_torch_against_the_definition(seed: int) -> None:
    lengths = [3, 6, 3]
    batch = _batch(seed, lengths, 4, 2).double()
    bias = torch.randn(1, 6, 6, dtype=torch.float64)
    output = batch.attend(causal=True, window=3, dropout=0.3, bias=bias)
    for index, length in enumerate(lengths):
        start = int(batch.starts[index])
        kept = kept_keys(batch.bases[start : start + length], 4, length, 0.3)
        for head in range(4):
            for i in range(length):
                seen = [j for j in range(length) if j <= i and i - j < 3]
                dots = [batch.query[start + i, head] @ batch.key[start + j, head // 2] for j in seen]
                weights = torch.stack(
                    [0.3 * dot + bias[0, i, j] for dot, j in zip(dots, seen, strict=True)]
                ).softmax(0)
                sums = [
                    w * kept[head, i, j] * kept_factor(0.3) * batch.value[start + j, head // 2]
                    for w, j in zip(weights, seen, strict=True)
                ]
                torch.testing.assert_close(output[start + i, head], torch.stack(sums).sum(0))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 3}, {"causal": True, "window": 3}])
def test_in_torch_padding_is_seen_by_nobody(
    options: dict[str, Any], dropout: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However sequences are grouped, outputs and gradients are those of each one alone."""
    lengths = [int(length) for length in np.random.default_rng(seed).integers(0, 12, 9)] + [1, 11]
    print(lengths)
    alone: list[Tensor] = []
    for worth in (0, 100, 10**9):
        monkeypatch.setattr("graftlm.kernels.attention_torch._WORTH_A_GROUP", worth)
        batch = _batch(seed, lengths, 4, 2).double()
        output = batch.attend(dropout=dropout, **options)
        found = [output, *batch.gradients(output, torch.sin(torch.arange(output.numel())).view_as(output))]
        alone = alone or found
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_without_the_library_torch_computes_it(
    dropout: float, kernels: Library, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = _batch(seed, [5, 9, 5])
    by_kernel = batch.attend(dropout=dropout)
    assert "KernelAttention" in type(by_kernel.grad_fn).__name__
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    in_torch = batch.attend(dropout=dropout)
    assert "KernelAttention" not in type(in_torch.grad_fn).__name__
    torch.testing.assert_close(by_kernel, in_torch, rtol=1e-5, atol=1e-6)


def test_against_the_attention_of_torch(kernels: Library, seed: int) -> None:
    batch = _batch(seed, [20])
    tensors = (tensor.transpose(0, 1) for tensor in (batch.query, batch.key, batch.value))
    expected = functional.scaled_dot_product_attention(*tensors, is_causal=True, scale=0.3).transpose(0, 1)
    torch.testing.assert_close(batch.attend(causal=True), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_half_precision(dropout: float, dtype: torch.dtype, seed: int) -> None:
    batch = _batch(seed, [5, 30])
    half = Batch(
        *(t.detach().to(dtype) for t in (batch.query, batch.key, batch.value)), batch.starts, batch.bases
    )
    output = half.attend(dropout=dropout)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), batch.attend(dropout=dropout), rtol=0, atol=0.05)


@pytest.mark.parametrize("switch", ["on", "off"])
@pytest.mark.parametrize("lengths", [[], [0, 0], [0, 3, 0]])
def test_empty_batches_and_sequences(
    lengths: list[int], switch: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", switch)
    batch = _batch(seed, lengths, 4, 2, 8, 6)
    output = batch.attend(dropout=0.1)
    assert output.shape == (sum(lengths), 4, 6)
    shapes = [gradient.shape for gradient in batch.gradients(output, torch.ones_like(output))]
    assert shapes == [batch.query.shape, batch.key.shape, batch.value.shape]


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_nan_stays_within_its_sequence_and_is_not_swallowed(part: str, kernels: Library, seed: int) -> None:
    batch = _batch(seed, [20, 30])
    with torch.no_grad():
        getattr(batch, part)[4] = math.nan
    output = batch.attend(dropout=0.1)
    assert output[4].isnan().all() and not output[20:].isnan().any()
    of_query, of_key, of_value = batch.gradients(output, torch.ones_like(output))
    for gradient in (of_query, of_key, of_value):
        assert not gradient[20:].isnan().any()
        # The gradient of the values does not depend on the values.
        assert gradient[:20].isnan().any() or (part == "value" and gradient is of_value)


def test_scores_of_any_size_stay_finite(kernels: Library, seed: int) -> None:
    batch = _batch(seed, [50])
    for scale in (1e3, -1e3, 1e30):
        assert batch.attend(scale=scale, dropout=0.1).isfinite().all()


def test_a_second_derivative_is_refused(kernels: Library, seed: int) -> None:
    batch = _batch(seed, [4])
    output = batch.attend()
    gradient = torch.autograd.grad(output.square().sum(), batch.query, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": torch.ones(5, 32)}, "have 3 dimensions"),
        ({"key": torch.ones(4, 4, 8)}, "tokens or widths differ"),
        ({"key": torch.ones(5, 4, 7)}, "tokens or widths differ"),
        ({"key": torch.ones(5, 3, 8), "value": torch.ones(5, 3, 8)}, "multiple of the key heads"),
        ({"value": torch.ones(5, 2, 8)}, "multiple of the key heads"),
        ({"value": torch.ones(5, 4, 8).double()}, "need one type"),
        ({"value": torch.ones(5, 4, 8, device="meta")}, "need one device"),
        ({"starts": torch.tensor([0, 5], dtype=torch.int32)}, "starts is int64"),
        ({"starts": torch.tensor([[0, 5]])}, "starts is int64"),
        ({"starts": torch.tensor([], dtype=torch.int64)}, "starts is int64"),
        ({"starts": torch.tensor([0, 4])}, "must rise from 0 to the 5 tokens"),
        ({"starts": torch.tensor([1, 5])}, "must rise from 0 to the 5 tokens"),
        ({"starts": torch.tensor([0, 9, 5])}, "must rise from 0 to the 5 tokens"),
        ({"query": torch.ones(4, 4, 8)}, "4 queries and 5 keys need key_starts"),
        ({"key_starts": torch.tensor([0, 4])}, "key_starts must rise from 0 to the 5 tokens"),
        ({"key_starts": torch.tensor([0, 2, 5])}, "starts are of 1 sequences, key_starts of 2"),
        ({"key_starts": torch.tensor([0, 5]), "causal": True}, "apart from it"),
        ({"key_starts": torch.tensor([0, 5]), "window": 3}, "apart from it"),
        (
            {"starts": torch.tensor([0, 2, 5]), "key_starts": torch.tensor([0, 5, 5])},
            "sequence 1 has queries but no key",
        ),
        ({"window": 0}, "at least 1 key"),
        ({"dropout": 1.0}, "below 1"),
        ({"dropout": 0.1}, "needs bases"),
        ({"dropout": 0.1, "bases": torch.zeros(5)}, r"int32 \[5\]"),
        ({"dropout": 0.1, "bases": torch.zeros(4, dtype=torch.int32)}, r"int32 \[5\]"),
        ({"bias": torch.zeros(2, 5, 5)}, "a bias is"),
        ({"bias": torch.zeros(1, 4, 5)}, "a bias is"),
        ({"bias": torch.zeros(1, 5, 5).double()}, "a bias is"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    ones = torch.ones(5, 4, 8)
    arguments = {"query": ones, "key": ones, "value": ones, "starts": torch.tensor([0, 5]), "scale": 1.0}
    with pytest.raises(ValueError, match=said):
        variable_length_attention(**{**arguments, **changes})


@pytest.mark.parametrize("strides", [(1, 8, 1), (0, 8, 1)])
def test_a_single_token_may_have_any_stride(strides: tuple[int, int, int]) -> None:
    """Torch calls it contiguous, whatever lies between its tokens."""
    odd = torch.as_strided(torch.randn(64), (1, 4, 8), strides)
    starts = torch.tensor([0, 1])
    found = variable_length_attention(odd, odd, odd, starts, scale=1.0)
    torch.testing.assert_close(found, odd.clone())
