from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from graftlm.kernels.gelu import gelu
from graftlm.kernels.library import Library


@pytest.mark.parametrize("size", [1e-3, 1.0, 4.0, 30.0])
def test_values_and_slopes_against_double_precision(size: float, kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    x = (size * torch.randn(3, 10_007)).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, wanted = gelu(x), functional.gelu(exact)
    assert "KernelGelu" in type(found.grad_fn).__name__
    (slope,), (right,) = (torch.autograd.grad(y.sum(), of) for y, of in ((found, x), (wanted, exact)))
    scale = exact.detach().abs().clamp(min=1e-30)
    apart = (found.detach().double() - wanted.detach()).abs()
    assert float((apart / scale).max()) < 4e-7
    assert float((slope.double() - right).abs().max()) < 4e-7


def test_no_further_from_the_truth_than_torch(kernels: Library, seed: int) -> None:
    """Where most numbers are; by the root of the mean square."""
    torch.manual_seed(seed)
    x = torch.randn(200_000)
    exact = functional.gelu(x.double())
    ours, theirs = (float((y.double() - exact).square().mean().sqrt()) for y in (gelu(x), functional.gelu(x)))
    assert ours < 1.5 * theirs


def test_the_slope_is_that_of_the_values(kernels: Library, seed: int) -> None:
    """Finite differences; float32 leaves them 3 digits."""
    torch.manual_seed(seed)
    x = torch.linspace(-4, 4, 101).requires_grad_()
    (slope,) = torch.autograd.grad(gelu(x).sum(), x)
    with torch.no_grad():
        rise = (gelu(x + 1e-2) - gelu(x - 1e-2)) / 2e-2
    torch.testing.assert_close(slope, rise, rtol=0, atol=2e-4)


def test_gradients_pass_through(kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    x, gradient = torch.randn(5, 7, requires_grad=True), torch.randn(7, 5).T
    (ours,) = torch.autograd.grad(gelu(x), x, gradient)
    (theirs,) = torch.autograd.grad(functional.gelu(x), x, gradient)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not gelu(x.detach()).requires_grad


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, 0.0, -0.0, 88.0, -88.0, 1e38, -1e38, 1e-45])
def test_the_ends_of_the_numbers(x: float, kernels: Library) -> None:
    number = torch.tensor([x])
    torch.testing.assert_close(gelu(number), functional.gelu(number), rtol=1e-6, atol=1e-30, equal_nan=True)


def test_views_empty_tensors_and_other_types(kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    wide = torch.randn(9, 12)
    assert torch.equal(gelu(wide.T), gelu(wide.T.contiguous()))
    assert gelu(torch.empty(0, 4)).shape == (0, 4)
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(gelu(wide.to(dtype)), functional.gelu(wide.to(dtype)))


def test_without_the_library_torch_computes_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    torch.manual_seed(seed)
    x = torch.randn(30)
    assert torch.equal(gelu(x), functional.gelu(x))


def test_threads_change_no_bit(kernels: Library, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(50_001)
    single = gelu(x)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(gelu(x), single)
