"""The compiled AdamW: torch's numbers, and rows that catch up to the very bits they would have had in time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from graftlm.kernels.adamw import AdamWKernels, Matrix, Moving, StepHistory, step_numbers
from graftlm.kernels.library import Library, load, missing_reason

BETAS, EPSILON = (0.9, 0.999), 1e-8


@pytest.fixture
def library() -> Library:
    if (found := load()) is None:
        pytest.skip(f"no compiled kernels: {missing_reason()}")
    return found


@pytest.fixture
def kernels(library: Library) -> AdamWKernels:
    return AdamWKernels(library, BETAS, EPSILON)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Unlike `torch.equal`, which takes -0 for 0."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


class Twins:
    """One matrix that takes every step whole, and its twin whose rows take them when they are asked to."""

    def __init__(self, kernels: AdamWKernels, weights: Tensor, decay: float, start: int = 0) -> None:
        self.kernels, self.decay = kernels, decay
        self.dense = (weights.clone(), torch.zeros_like(weights), torch.zeros_like(weights))
        done = torch.full((len(weights),), start)
        self.late = Matrix(
            weights.clone(), torch.zeros_like(weights), torch.zeros_like(weights), done, StepHistory(start)
        )

    def step(self, rate: float, rows: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        """Take a step with a gradient [len(rows), width] for different rows."""
        weights, first, second = self.dense
        numbers = step_numbers(rate, self.decay, BETAS, self.late.history.now + 1)
        whole = torch.zeros_like(weights)
        whole[rows] = gradient
        self.kernels.update([Moving(weights, whole, first, second, numbers)], scale)
        self.kernels.catch_up(self.late, rows)
        self.late.history.append(numbers)
        self.kernels.update_rows(self.late, rows, gradient, scale)

    def flush(self) -> None:
        """As `LazyRows.flush`."""
        now = self.late.history.now
        self.kernels.catch_up(self.late, torch.arange(len(self.late.done)))
        self.late = self.late._replace(history=StepHistory(now))

    def assert_equal(self, rows: Tensor | slice = slice(None)) -> None:
        """Weights and moments, bit for bit."""
        for one, other in zip(self.dense, self.late, strict=False):
            assert same_bits(one[rows], other[rows])


def schedule(step: int, total: int, peak: float = 1e-3) -> float:
    """Another rate at each step: up, then down to zero, which is a rate as well."""
    return peak * (step / 10 if step < 10 else max(0.0, (total - 1 - step) / (total - 10)))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("width", [1, 31, 128, 200])
def test_late_rows_equal_the_dense_step_at_every_flush(
    kernels: AdamWKernels, seed: int, decay: float, width: int, two_threads: None
) -> None:
    """Random rows, gradients over nine orders of magnitude, scales and moments of flushing; one row in every step."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(40, width, generator=random) * 10.0 ** torch.randint(
        -9, 2, (40, width), generator=random
    )
    twins = Twins(kernels, weights, decay)
    flushes = set(torch.randint(0, 300, (6,), generator=random).tolist())
    for step in range(300):
        # The last ten rows are never touched.
        rows = torch.cat([torch.tensor([0]), 1 + torch.randperm(29, generator=random)[: step % 5]])
        gradient = torch.randn(len(rows), width, generator=random)
        gradient *= 10.0 ** torch.randint(-9, 1, gradient.shape, generator=random)
        twins.step(schedule(step, 300), rows, gradient, 1.0 if step % 3 else 0.37)
        twins.assert_equal(rows)
        if step in flushes:
            twins.flush()
            twins.assert_equal()
    twins.flush()
    twins.assert_equal()
    assert twins.dense[0].isfinite().all()


@pytest.mark.parametrize(("decay", "peak"), [(0.0, 1e-3), (0.01, 1e-3), (0.9, 1.0), (900.0, 1e-3)])
def test_thousands_of_missed_steps(
    kernels: AdamWKernels, seed: int, decay: float, peak: float, two_threads: None
) -> None:
    """Touched once, early: moments fade to nothing, by and by weights below 1e-38 too, and every bit agrees."""
    random = torch.Generator().manual_seed(seed)
    exponents = torch.linspace(-37, 3, 96)
    weights = torch.randn(16, 96, generator=random) * 10.0**exponents
    weights[0] = 0.0
    weights[1] = -0.0
    weights[13] = 1e-40  # subnormal: zero from the first step on, though nothing else happens to this row
    weights[3] = -1e-20  # decays to -0, from which a step that underflowed to -0 makes +0
    twins = Twins(kernels, weights, decay)
    for step in range(4000):
        touched = torch.arange(step, 12, 8) if step < 8 else torch.arange(0)
        gradient = torch.randn(len(touched), 96, generator=random) * 10.0 ** exponents.flip(0).clamp(max=0.0)
        if step == 3:
            gradient[touched == 3] = -1e-35
        twins.step(schedule(step, 4000, peak), touched, gradient)
        if step in (7, 700, 1500, 2500):
            twins.flush()
            twins.assert_equal()
    twins.flush()
    twins.assert_equal()
    assert bool((twins.dense[1] == 0.0).all()), "the first moments are exactly zero by now"
    assert bool((twins.dense[2] != 0.0).any()), "the second are not"


@pytest.mark.parametrize("odd", ["negative rate", "growing weights", "decay beyond one", "not finite"])
def test_unusual_steps_are_replayed_as_they_are(kernels: AdamWKernels, seed: int, odd: str) -> None:
    """What the shortcut for faded moments does not foresee takes the long way."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(8, 40, generator=random)
    if odd == "not finite":
        weights[0, 0], weights[1, 1], weights[2, 2] = math.inf, math.nan, -math.inf
    decay = {"growing weights": -0.5, "decay beyond one": 3.0}.get(odd, 0.01)
    twins = Twins(kernels, weights, decay)
    for step in range(400):
        rows = torch.arange(4) if step < 3 else torch.arange(0)
        gradient = torch.randn(len(rows), 40, generator=random)
        if odd == "not finite" and step == 1:
            gradient[3, 3] = math.inf
        twins.step(-0.5 if odd == "negative rate" and step % 2 else 0.5 if step % 7 else 1e-3, rows, gradient)
    twins.flush()
    twins.assert_equal()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.9), (0.99, 0.9), (0.0, 0.99), (0.5, 0.3)])
def test_other_betas(library: Library, seed: int, betas: tuple[float, float]) -> None:
    """Where first moments fade no faster than the root of the second, a late step can be the largest."""
    random = torch.Generator().manual_seed(seed)
    kernels = AdamWKernels(library, betas, EPSILON)
    sizes = 10.0 ** (1.4 * torch.arange(8.0)[:, None])
    twins = Twins(kernels, torch.randn(8, 40, generator=random) * sizes, 0.01)
    for step in range(300):
        rows = torch.arange(step, 8, 3) if step < 8 else torch.arange(0)
        twins.step(schedule(step, 300), rows, torch.randn(len(rows), 40, generator=random))
    twins.flush()
    twins.assert_equal()


def test_fifty_steps_are_those_of_torch_in_float64(kernels: AdamWKernels, seed: int) -> None:
    """Weights and moments to 1e-6 relative, decay on and a rate that changes."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(70, 33), (5000,), (3, 4, 5), ()]
    ours = [torch.randn(shape, generator=random) for shape in shapes]
    theirs = [torch.nn.Parameter(each.double()) for each in ours]
    optimizer = torch.optim.AdamW(theirs, lr=1.0, betas=BETAS, eps=EPSILON, weight_decay=0.1)
    moments = [(torch.zeros_like(each), torch.zeros_like(each)) for each in ours]
    for step in range(50):
        rate = schedule(step, 50)
        gradients = [torch.randn(shape, generator=random) for shape in shapes]
        numbers = step_numbers(rate, 0.1, BETAS, step + 1)
        kernels.update(
            [
                Moving(weights, gradient, *pair, numbers)
                for weights, gradient, pair in zip(ours, gradients, moments, strict=True)
            ],
            0.25,
        )
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.double() * 0.25
        optimizer.step()
    states = [optimizer.state[parameter] for parameter in theirs]
    # Over all parameters: a single number may be the small difference of large ones.
    for found, expected in (
        (ours, theirs),
        ([first for first, _ in moments], [state["exp_avg"] for state in states]),
        ([second for _, second in moments], [state["exp_avg_sq"] for state in states]),
    ):
        one = torch.cat([each.double().flatten() for each in found])
        other = torch.cat([each.detach().flatten() for each in expected])
        assert float((one - other).norm() / other.norm()) < 1e-6


def test_the_norm_does_not_depend_on_threads_or_on_rows_of_zeros(kernels: AdamWKernels, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(5000, 96, generator=random)
    keep = torch.rand(5000, generator=random) < 0.1
    matrix[~keep] = 0.0
    others = [
        torch.randn(shape, generator=random) for shape in ((100_000,), (7,), (64, 3, 3), (), (0,), (3, 0))
    ]
    before = torch.get_num_threads()
    found = set()
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        for embedding in (matrix, matrix[keep]):
            found.add(kernels.squared_norm([others[0], embedding, *others[1:]]))
    torch.set_num_threads(before)
    assert len(found) == 1
    exact = sum(float((each.double() ** 2).sum()) for each in (matrix, *others))
    assert found.pop() == pytest.approx(exact, rel=1e-13)
    assert kernels.squared_norm([]) == 0.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_shows_in_the_norm(kernels: AdamWKernels, broken: float) -> None:
    for place in (0, 17, 4999):
        gradient = torch.ones(5000)
        gradient[place] = broken
        assert not math.isfinite(kernels.squared_norm([torch.ones(3, 3), gradient]))


def test_rows_are_added_in_the_order_of_torchs_dense_gradient(
    kernels: AdamWKernels, seed: int, two_threads: None
) -> None:
    random = torch.Generator().manual_seed(seed)
    for width in (1, 100, 384):
        tokens = torch.randint(0, 50, (700,), generator=random)
        values = torch.randn(700, width, generator=random)
        weight = torch.zeros(50, width, requires_grad=True)
        (torch.nn.functional.embedding(tokens, weight) * values).sum().backward()
        rows, places = torch.unique(tokens, return_inverse=True)
        sums = torch.zeros(len(rows), width)
        kernels.add_rows(sums, places, values)
        assert weight.grad is not None
        assert same_bits(sums, weight.grad[rows])


def test_rows_that_do_not_exist_are_passed_over(kernels: AdamWKernels) -> None:
    twins = Twins(kernels, torch.ones(4, 8), 0.5)
    for _ in range(3):
        twins.step(0.1, torch.tensor([1]), torch.ones(1, 8))
    kernels.catch_up(twins.late, torch.tensor([[-1, 4], [2, 2**40], [2, -(2**62)]]))
    assert twins.late.done.tolist() == [0, 3, 3, 0]
    twins.assert_equal(torch.tensor([1, 2]))


def test_the_mode_of_the_processor_is_given_back(kernels: AdamWKernels) -> None:
    """Torch's own operations keep subnormal numbers afterwards."""
    twins = Twins(kernels, torch.ones(64, 8), 0.5)
    twins.step(0.1, torch.tensor([1]), torch.ones(1, 8))
    twins.flush()
    assert float(torch.tensor(1e-38) * torch.tensor(0.1)) > 0.0


def test_the_history_grows(kernels: AdamWKernels) -> None:
    twins = Twins(kernels, torch.ones(4, 8), 0.01, start=5)
    for step in range(1000):
        twins.step(schedule(step, 1000), torch.tensor([1]), torch.ones(1, 8))
    assert twins.late.done.tolist() == [5, 1005, 5, 5]
    twins.flush()
    twins.assert_equal()
