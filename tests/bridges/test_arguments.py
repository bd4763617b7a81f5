"""Every field of `TrainingArguments` is sorted; what cannot be honoured is refused with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate.utils import ParallelismConfig
from tests.bridges.scripts import arguments, model, rows, trainer
from transformers.trainer_pt_utils import AcceleratorConfig

import graftlm
from graftlm.bridges.arguments import HARMLESS, HONOURED, REFUSED, check_arguments, unsorted
from graftlm.errors import ConfigurationError

ASKED: dict[str, Any] = {
    "optim_args": "x=1", "neftune_noise_alpha": 0.1, "torch_empty_cache_steps": 3, "debug": "underflow_overflow",
    "include_num_input_tokens_seen": "all", "skip_memory_metrics": False, "fsdp": True, "deepspeed": {},
    "accelerator_config": AcceleratorConfig(split_batches=True), "parallelism_config": ParallelismConfig,
}  # fmt: skip


def test_every_field_is_sorted_once() -> None:
    assert not unsorted(), "transformers has new fields: sort them in bridges/arguments.py"
    assert len({*HONOURED, *HARMLESS, *REFUSED}) == len(HONOURED) + len(HARMLESS) + len(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_each_refused_field_raises(name: str, tmp_path: Path) -> None:
    given = arguments(tmp_path)
    if not hasattr(given, name):
        pytest.skip(f"this transformers has no {name}")
    check_arguments(given)
    value = ASKED.get(name, True) or {"zero": 1}
    setattr(given, name, value)
    with pytest.raises(ConfigurationError, match=name) as raised:
        graftlm.Trainer(model=model("bert", "labels", 1), args=given)
    assert raised.value.fix


@pytest.mark.parametrize(
    "changes",
    [{"optim": "adafactor"}, {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}],
)
def test_refused_values(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        check_arguments(arguments(tmp_path, **changes))


def test_a_new_field_that_is_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(tmp_path, weight_decay=0.5)
    monkeypatch.setattr(
        "graftlm.bridges.arguments.HONOURED", [each for each in HONOURED if each != "weight_decay"]
    )
    with pytest.raises(ConfigurationError, match=r"weight_decay=0\.5"):
        check_arguments(given)


def test_an_optimizer_of_the_users_is_refused(tmp_path: Path) -> None:
    network = model("bert", "labels", 1)
    mine = torch.optim.SGD(network.parameters())
    with pytest.raises(ConfigurationError, match="optimizers"):
        graftlm.Trainer(model=network, args=arguments(tmp_path), optimizers=(mine, None))

    class Mine(graftlm.Trainer):
        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = mine
            return mine

    with pytest.raises(ConfigurationError, match="SGD"):
        trainer(Mine, network, "labels", arguments(tmp_path), 1).train()


def test_an_override_that_would_never_be_called_is_refused(tmp_path: Path) -> None:
    class Mine(graftlm.Trainer):
        def training_step(self, *arguments: Any, **more: Any) -> Any: ...

    with pytest.raises(ConfigurationError, match="training_step"):
        Mine(model=model("bert", "labels", 1), args=arguments(tmp_path))


def test_streams_frozen_models_and_searches_are_refused(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(rows("labels", 1))

    network = model("bert", "labels", 1)
    made = trainer(
        graftlm.Trainer, network, "labels", arguments(tmp_path, max_steps=2), 1, train_dataset=Stream()
    )
    with pytest.raises(ConfigurationError, match="stream"):
        made.train()
    with pytest.raises(ConfigurationError, match="hyper-parameters"):
        made.train(trial={"learning_rate": 1})
    with pytest.raises(ConfigurationError, match="hyper-parameters"):
        made.hyperparameter_search(n_trials=3)
    made = trainer(graftlm.Trainer, network.requires_grad_(False), "labels", arguments(tmp_path), 1)
    with pytest.raises(ConfigurationError, match="frozen"):
        made.train()


def test_no_private_name_of_the_stock_trainer_is_touched() -> None:
    """Nothing private is called, and nothing of ours hides a private name of theirs."""
    own = {name for name in vars(graftlm.Trainer) if name.startswith("_") and not name.startswith("__")}
    theirs = {name for name in dir(transformers.Trainer) if name.startswith("_")}
    assert not own & theirs
    source = Path(graftlm.__file__).parent / "bridges"
    for file in source.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for name in theirs:
            assert name.startswith("__") or f".{name}(" not in text, f"{file.name} calls {name}"
