"""Numbers that are read late: the same weights and records, no waiting, and no step after a spoilt one."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.training.networks import LABELS, equal_bits, network, plan, random_examples, train
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from graftlm.errors import Diverged
from graftlm.models.flat.probe import make_flat
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.strategies.full import Full
from graftlm.training.batching import epoch_batches
from graftlm.training.late import Late, late_steps
from graftlm.training.loop import Step, fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.torch_adamw import TorchAdamW


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimiser of accelerators."""
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")


def _adamw(model: nn.Module) -> TorchAdamW:
    optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
    assert isinstance(optimizer, TorchAdamW)
    return optimizer


def _late(
    seed: int, model: nn.Module, late: Late | None, optimizer: TorchAdamW | None = None
) -> Iterator[Step]:
    examples = random_examples(seed)
    loss = CrossEntropy().bind(examples.targets, [str(label) for label in range(LABELS)])
    steps = plan(micro_batch=8)
    return fit(model, examples, loss, optimizer or _adamw(model), steps, Accelerator(cpu=True), late=late)


def _settling(*numbers: int) -> Callable[[int], bool]:
    return lambda number: number in (*numbers, 6)


@pytest.mark.parametrize("flat", [False, True])
def test_weights_and_records_are_those_of_steps_read_in_time(seed: int, flat: bool) -> None:
    models = [network(seed, dropout=0.1) for _ in range(2)]
    if flat:
        assert [make_flat(model) for model in models] == ["", ""]
    expected = train(models[0], random_examples(seed), plan(micro_batch=8))
    found = list(_late(seed, models[1], Late(2, _settling(4))))
    assert equal_bits(*models)
    for one, other in zip(found, expected, strict=True):
        assert (one.number, one.epoch, one.loss, one.gradient_norm, one.learning_rate, one.tokens) == (
            other.number, other.epoch, other.loss, other.gradient_norm, other.learning_rate, other.tokens
        )  # fmt: skip
        assert one.seconds > 0
    # The records of 2, 3 and 4 come together when 4 is asked for, those of 5 and 6 at the end.
    assert [step.settled for step in found] == [False, False, False, True, False, True]


def test_what_is_done_with_settled_weights_is_no_time_of_the_next_step(seed: int) -> None:
    seconds: dict[int, float] = {}
    for step in _late(seed, network(seed), Late(8, _settling(4))):
        seconds[step.number] = step.seconds
        if step.number == 4:
            time.sleep(2.0)
    assert seconds[5] < 0.9  # 5 and 6 are read together: each would have half of the two seconds


def test_settled_weights_are_those_after_the_step(seed: int) -> None:
    short, long = network(seed), network(seed)
    for step in _late(seed, short, None):
        if step.number == 4:
            break
    for step in _late(seed, long, Late(8, _settling(4))):
        if step.number == 4:
            assert step.settled
            break
    assert equal_bits(short, long)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_spoilt_step_and_all_after_it_move_nothing(seed: int, broken: str) -> None:
    model, calls = network(seed), Counter[str]()
    optimizer = _adamw(model)
    kept: dict[str, Any] = {}

    def spoil(module: nn.Module, inputs: object, output: Any) -> None:
        calls["forward"] += 1
        if calls["forward"] == 5:  # the first of the two micro-batches of step 3
            kept["weights"] = copy.deepcopy(model.state_dict())
            kept["moments"] = copy.deepcopy(optimizer.state_dict()["state"])
            if broken == "loss":
                output.logits = output.logits * math.nan

    def spoil_gradient(gradient: torch.Tensor) -> torch.Tensor:
        calls["backward"] += 1
        return gradient * math.inf if calls["backward"] == 5 else gradient

    model.register_forward_hook(spoil)
    if broken == "gradient":
        next(iter(model.parameters())).register_hook(spoil_gradient)
    seen: list[int] = []
    with pytest.raises(Diverged, match="step 3") as caught:
        seen += (step.number for step in _late(seed, model, Late(2, _settling()), optimizer))
    assert calls["forward"] == 2 * 5, "two more steps had begun when it was noticed"
    rows = epoch_batches(random_examples(seed).lengths, 16, "shuffled", 3, 0)[2]
    assert caught.value.rows == sorted(rows.tolist())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, kept["weights"][name]), name
    moments = optimizer.state_dict()["state"]
    assert all(torch.equal(moments[p][n], kept["moments"][p][n]) for p in moments for n in moments[p])


class _Waits(TorchDispatchMode):
    """Counts what would make the CPU wait for an accelerator: numbers read, and results of unknown size."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # What says where examples begin is made on the CPU and stays there; weights, losses and norms do not.
        if name in self.WAITING and args[0].is_floating_point():
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("flat", [False, True])
def test_nothing_within_a_step_waits_for_the_device(seed: int, flat: bool) -> None:
    model = network(seed, dropout=0.1)
    if flat:
        assert make_flat(model) == ""
    counted: list[Counter[str]] = []
    for late in (None, Late(8, _settling())):
        steps = _late(seed, model, late)
        with _Waits() as waits:
            list(steps)
        counted.append(waits.found)
    assert counted[0]["_local_scalar_dense"] >= 2 * 6, "loss and norm of each step"
    # `tolist`, with which the numbers are read at the end, is no scalar that is read.
    assert not counted[1]


class _Gpu:
    device, num_processes = torch.device("cuda"), 1


class _Gpus(_Gpu):
    num_processes = 2


def test_only_what_can_skip_a_step_by_itself_is_read_late(seed: int) -> None:
    model = network(seed)
    muon = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01, optimizer="muon")
    late: Any = late_steps
    assert late(_adamw(model), _Gpu()) > 0
    assert (
        late(muon, _Gpu()) == late(_adamw(model), _Gpus()) == late(_adamw(model), Accelerator(cpu=True)) == 0
    )
