"""What accelerators compute, on a CPU: the padded batch, and what the flash kernel of torch is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels.random_bits import bases_of, starts_of
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from graftlm.kernels import attention, attention_flash, variable_length_attention
from graftlm.kernels.attention_torch import Pattern, attention_padded
from graftlm.kernels.keys import example_keys, site_bases, sites_bases, token_keys
from graftlm.kernels.sequences import Sequences

LENGTHS, KEY_LENGTHS = [4, 1, 0, 17, 9], [3, 20, 2, 1, 8]


def _reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """What the documentation of `varlen_attn` says, one sequence and one head after the other."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q >= int(cu_seq_q.diff().max()) and max_k >= int(cu_seq_k.diff().max())
    assert query.dtype in (torch.float16, torch.bfloat16) and query.stride(-1) == key.stride(-1) == 1
    assert enable_gqa or query.shape[1] == key.shape[1]
    group = query.shape[1] // key.shape[1]
    parts: list[Tensor] = []
    for begin, end, key_begin, key_end in zip(
        cu_seq_q[:-1], cu_seq_q[1:], cu_seq_k[:-1], cu_seq_k[1:], strict=True
    ):
        far = torch.arange(key_end - key_begin) - torch.arange(end - begin)[:, None]
        left, right = window_size
        hidden = ((left >= 0) & (far < -left)) | ((right >= 0) & (far > right))
        heads = [
            (query[begin:end, head].float() @ key[key_begin:key_end, head // group].float().T * scale)
            .masked_fill(hidden, -torch.inf)
            .softmax(-1)
            .to(value.dtype)
            @ value[key_begin:key_end, head // group]
            for head in range(query.shape[1])
        ]
        parts.append(torch.stack(heads, 1))
    return torch.cat(parts)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Lets the CPU be the device with the kernel, whose calls are bound to the signature that torch has."""
    made: list[dict[str, Any]] = []

    def asked(*args: Any, **options: Any) -> Tensor:
        made.append(dict(inspect.signature(varlen_attn).bind(*args, **options).arguments))
        return _reference(*args, **options)

    monkeypatch.setattr(attention, "_waited_for", lambda device: True)
    monkeypatch.setattr(attention_flash, "DEVICE", "cpu")
    monkeypatch.setattr(attention_flash, "_varlen_attn", lambda: asked)
    attention_flash.proved.cache_clear()
    yield made
    attention_flash.proved.cache_clear()


def _tensors(seed: int, dtype: torch.dtype, tokens: int, keys: int, key_heads: int = 2) -> list[Tensor]:
    torch.manual_seed(seed)
    shapes = ((tokens, 4), (keys, key_heads), (keys, key_heads))
    return [torch.randn(*shape, 8).to(dtype).requires_grad_() for shape in shapes]


def _with_gradients(output: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    of_output = torch.linspace(-1, 1, output.numel()).view(output.shape).to(output.dtype)
    return [output, *torch.autograd.grad(output, tensors, of_output)]


@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_goes_to_the_kernel_of_torch(
    causal: bool, window: int | None, calls: list[dict[str, Any]], seed: int
) -> None:
    tensors = _tensors(seed, torch.bfloat16, sum(LENGTHS), sum(LENGTHS))
    options: dict[str, Any] = {"scale": 0.3, "causal": causal, "window": window}
    found = _with_gradients(variable_length_attention(*tensors, starts_of(LENGTHS), **options), tensors)
    wide = [each.detach().double().requires_grad_() for each in tensors]
    expected = _with_gradients(variable_length_attention(*wide, starts_of(LENGTHS), **options), wide)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.05)
    asked = calls[-1]
    assert asked["cu_seq_q"].tolist() == asked["cu_seq_k"].tolist() == [0, 4, 5, 5, 22, 31]
    assert (asked["max_q"], asked["max_k"], asked["scale"], asked["enable_gqa"]) == (17, 17, 0.3, True)
    reach = -1 if window is None else window - 1
    assert asked["window_size"] == (reach, 0 if causal else reach)


def test_keys_apart_have_starts_of_their_own(calls: list[dict[str, Any]], seed: int) -> None:
    tensors = _tensors(seed, torch.float16, sum(LENGTHS), sum(KEY_LENGTHS))
    apart = {"scale": 0.3, "key_starts": starts_of(KEY_LENGTHS)}
    found = variable_length_attention(*tensors, starts_of(LENGTHS), **apart)
    wide = [each.detach().double() for each in tensors]
    expected = variable_length_attention(*wide, starts_of(LENGTHS), **apart)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)
    assert (calls[-1]["max_q"], calls[-1]["max_k"]) == (17, 20)


def test_what_the_kernel_cannot_is_computed_padded(calls: list[dict[str, Any]], seed: int) -> None:
    """float32, dropout, a bias, and heads whose features are not a multiple of eight."""
    starts, bases = starts_of(LENGTHS), bases_of(seed, LENGTHS)
    half, single = (
        _tensors(seed, dtype, sum(LENGTHS), sum(LENGTHS), 4) for dtype in (torch.bfloat16, torch.float32)
    )
    variable_length_attention(*half, starts, scale=0.3)
    before = len(calls)
    assert before > 0
    variable_length_attention(*single, starts, scale=0.3)
    variable_length_attention(*half, starts, scale=0.3, dropout=0.2, bases=bases)
    variable_length_attention(*half, starts, scale=0.3, bias=torch.zeros(1, 17, 17, dtype=torch.bfloat16))
    variable_length_attention(*(each[:, :, :7] for each in half), starts, scale=0.3)
    assert len(calls) == before


def test_a_kernel_proves_itself_in_the_middle_of_an_evaluation(calls: list[dict[str, Any]]) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert attention_flash.proved(torch.device("cpu"))
    assert len(calls) == 4


def test_a_kernel_that_is_wrong_or_missing_is_not_used(
    calls: list[dict[str, Any]], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = _tensors(seed, torch.bfloat16, sum(LENGTHS), sum(LENGTHS))
    expected = variable_length_attention(*half, starts_of(LENGTHS), scale=0.3)

    def wide(*args: Any, window_size: Any, **options: Any) -> Tensor:
        return _reference(*args, window_size=(-1, -1), **options)

    def missing(*args: Any, **options: Any) -> Tensor:
        raise RuntimeError("no kernel image is available")

    for broken in (wide, missing):
        attention_flash.proved.cache_clear()
        monkeypatch.setattr(attention_flash, "_varlen_attn", lambda broken=broken: broken)
        assert not attention_flash.proved(torch.device("cpu"))
        found = variable_length_attention(*half, starts_of(LENGTHS), scale=0.3)
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("lengths", "key_lengths", "causal", "window"),
    [
        (LENGTHS, None, False, None),
        (LENGTHS, None, True, 4),
        (LENGTHS, None, False, 3),
        (LENGTHS, KEY_LENGTHS, False, None),
    ],
)
def test_one_padded_batch_computes_what_groups_do(
    lengths: list[int], key_lengths: list[int] | None, causal: bool, window: int | None, dropout: float, seed: int
) -> None:  # fmt: skip
    tensors = _tensors(seed, torch.float64, sum(lengths), sum(key_lengths or lengths))
    bases, pattern = bases_of(seed, lengths), Pattern(0.3, causal, window, dropout)
    starts, key_starts = starts_of(lengths), starts_of(key_lengths or lengths)
    output = variable_length_attention(
        *tensors, starts, scale=0.3, causal=causal, window=window, dropout=dropout, bases=bases,
        key_starts=None if key_lengths is None else key_starts,
    )  # fmt: skip
    expected = _with_gradients(output, tensors)
    # Also with more places than the longest sequence needs, as where shapes are to be few.
    for spare in (0, 5):
        queries, keys = (
            Sequences(each.starts, each.tokens, each.longest + spare)
            for each in (Sequences.of(where, torch.device("cpu")) for where in (starts, key_starts))
        )
        found = _with_gradients(attention_padded(*tensors, queries, keys, pattern, bases, None), tensors)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_bases_are_the_same_bits_wherever_they_are_made(seed: int) -> None:
    keys = token_keys(example_keys(seed, 3, range(5)), LENGTHS)
    found = sites_bases(torch.from_numpy(keys.view(np.int64)), range(30, 40))
    for row, site in zip(found, range(30, 40), strict=True):
        assert torch.equal(row, site_bases(keys, site))
