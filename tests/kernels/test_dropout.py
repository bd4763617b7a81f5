from __future__ import annotations

import math

import pytest
import torch
from tests.kernels.random_bits import bases_of

from graftlm.kernels import keyed_dropout
from graftlm.kernels.library import Library
from graftlm.kernels.masks import kept_factor, kept_features, threshold


@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 5), (3, 4, 33), (130, 384), (2, 20000), (5, 200, 700), (2, 600000)]
)
def test_kernel_and_torch_give_the_same_bits(
    shape: tuple[int, ...], kernels: Library, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    bases = bases_of(seed, [math.prod(shape[:-1])])
    x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
    by_kernel = keyed_dropout(x, bases, 0.1)
    (of_kernel,) = torch.autograd.grad(by_kernel, x, gradient)
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    in_torch = keyed_dropout(x, bases, 0.1)
    (of_torch,) = torch.autograd.grad(in_torch, x, gradient)
    assert torch.equal(by_kernel, in_torch) and torch.equal(of_kernel, of_torch)


def test_what_is_kept_is_scaled_and_the_way_back_has_the_same_mask(seed: int) -> None:
    torch.manual_seed(seed)
    bases = bases_of(seed, [40])
    x = torch.randn(40, 16, dtype=torch.float64, requires_grad=True)
    kept = kept_features(bases, 16, 0.25).double()
    torch.testing.assert_close(keyed_dropout(x, bases, 0.25), x * kept / 0.75, rtol=1e-14, atol=0)
    (gradient,) = torch.autograd.grad(keyed_dropout(x, bases, 0.25).sum(), x)
    torch.testing.assert_close(gradient, kept / 0.75, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_drop_the_same_numbers(dtype: torch.dtype, seed: int) -> None:
    bases = bases_of(seed, [50])
    x = torch.ones(50, 20, dtype=dtype)
    dropped = keyed_dropout(x, bases, 0.1)
    assert dropped.dtype == dtype
    assert torch.equal(dropped != 0, keyed_dropout(x.float(), bases, 0.1) != 0)
    assert dropped.max() == torch.tensor(kept_factor(0.1), dtype=dtype)


@pytest.mark.parametrize("probability", [0.0, 1e-7, 1e-5, 0.1, 0.3, 0.5, 0.9, 0.999, 0.9999, 0.9999999])
def test_means_stay_what_they_were(probability: float, seed: int) -> None:
    """Rounding a probability to 16 bits must not scale what is kept by another share than is kept."""
    share = 1 - threshold(probability) / 2**16
    assert kept_factor(probability) * share == pytest.approx(1.0, rel=1e-15)
    assert kept_factor(probability) == pytest.approx(1 / (1 - probability), rel=1e-2) or probability > 0.999
    found = keyed_dropout(torch.ones(4_000, 1_000), bases_of(seed, [4_000]), probability)
    error = math.sqrt((1 - share) / share / found.numel())
    assert abs(found.double().mean().item() - 1.0) <= 6 * error + 1e-6


def test_without_dropout_the_same_tensor_comes_back(seed: int) -> None:
    x = torch.randn(3, 4)
    assert keyed_dropout(x, bases_of(seed, [3]), 0.0) is x


def test_strided_and_empty_input(kernels: Library, seed: int) -> None:
    _strided_and_empty(seed)


def test_strided_and_empty_input_in_torch(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    _strided_and_empty(seed)


def _strided_and_empty(seed: int) -> None:
    torch.manual_seed(seed)
    bases = bases_of(seed, [12])
    wide = torch.randn(9, 12)
    assert torch.equal(keyed_dropout(wide.T, bases, 0.4), keyed_dropout(wide.T.contiguous(), bases, 0.4))
    assert torch.equal(
        keyed_dropout(wide.T, bases.repeat_interleave(2)[::2], 0.4), keyed_dropout(wide.T, bases, 0.4)
    )
    assert keyed_dropout(torch.empty(0, 5), bases[:0], 0.4).shape == (0, 5)
    assert keyed_dropout(torch.empty(12, 0), bases, 0.4).shape == (12, 0)


@pytest.mark.parametrize("switch", ["on", "off"])
def test_nan_is_not_dropped_away(switch: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", switch)
    x = torch.full((6, 50), math.nan)
    assert keyed_dropout(x, bases_of(seed, [6]), 0.5).isnan().all()


def test_threads_change_nothing(kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    x, bases = torch.randn(500, 384), bases_of(seed, [500])
    single = keyed_dropout(x, bases, 0.1)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(keyed_dropout(x, bases, 0.1), single)


def test_a_second_derivative_is_refused(seed: int) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    dropped = keyed_dropout(x, bases_of(seed, [3]), 0.1)
    (gradient,) = torch.autograd.grad(dropped.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_arguments_that_do_not_fit_are_refused(seed: int) -> None:
    bases = bases_of(seed, [3])
    with pytest.raises(ValueError, match=r"needs int32 bases \[4\]"):
        keyed_dropout(torch.ones(4, 2), bases, 0.1)
    with pytest.raises(ValueError, match=r"not torch\.int64"):
        keyed_dropout(torch.ones(3, 2), bases.long(), 0.1)
    with pytest.raises(ValueError, match="needs floating point"):
        keyed_dropout(torch.ones(3, 2, dtype=torch.int32), bases, 0.1)
    with pytest.raises(ValueError, match="below 1"):
        keyed_dropout(torch.ones(3, 2), bases, 1.0)
