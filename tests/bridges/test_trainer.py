"""What `graftlm.Trainer` does beyond the stock one, and what users of that one rely on."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.bridges.scripts import VOCABULARY, Watching, arguments, collate, model, rows, trainer, weights_of
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback

import graftlm
from graftlm.errors import ConfigurationError, DataError, Diverged, RunError

KINDS = ["labels", "tags", "spans", "label_sets", "numbers", "masked"]


def _trained(folder: Path, kind: str = "labels", family: str = "bert", seed: int = 3, **options: Any) -> Any:
    changes = options.pop("changes", {})
    cls = options.pop("cls", graftlm.Trainer)
    dropout = options.pop("dropout", False)
    network = options.pop("network", None) or model(family, kind, seed, dropout)
    resume = options.pop("resume", None)
    made = trainer(cls, network, kind, arguments(folder, **changes), seed, **options)
    made.train(resume_from_checkpoint=resume)
    return made


def _losses(made: Any) -> list[float]:
    return [record["loss"] for record in made.state.log_history if "loss" in record]


def _without_times(made: Any) -> list[dict[str, float]]:
    return [
        {key: each[key] for key in each if "runtime" not in key and "per_second" not in key}
        for each in made.state.log_history
    ]


def _equal(one: Any, other: Any) -> None:
    own = weights_of(one.model)
    for name, each in weights_of(other.model).items():
        assert torch.equal(own[name], each), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [False, True])
def test_any_split_into_micro_batches_gives_the_same(
    kind: str, dropout: bool, seed: int, tmp_path: Path
) -> None:
    found: list[Any] = []
    for micro, parts in ((16, 1), (4, 4)):
        changes = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": parts}
        found.append(_trained(tmp_path, kind, seed=seed, dropout=dropout, changes=changes))
    np.testing.assert_allclose(_losses(found[0]), _losses(found[1]), rtol=2e-5)
    norms = [[each["grad_norm"] for each in made.state.log_history if "grad_norm" in each] for made in found]
    assert norms[0][0] == pytest.approx(norms[1][0], rel=1e-5)


def test_causal_models_count_what_is_read(seed: int, tmp_path: Path) -> None:
    found = [
        _trained(tmp_path, "causal", "gpt2", seed,
                 changes={"per_device_train_batch_size": micro, "gradient_accumulation_steps": 8 // micro})
        for micro in (8, 2)
    ]  # fmt: skip
    np.testing.assert_allclose(_losses(found[0]), _losses(found[1]), rtol=1e-5)


class _Stop(Exception):
    pass


class _Killer(TrainerCallback):
    """Ends the training in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            raise _Stop


@pytest.mark.parametrize(
    ("family", "kind", "more"),
    [
        ("bert", "labels", {}), ("roberta", "tags", {"gradient_accumulation_steps": 3}),
        ("distilbert", "label_sets", {"lr_scheduler_type": "cosine"}), ("gpt2", "causal", {}),
        ("bert", "masked", {"train_sampling_strategy": "group_by_length"}),
    ],
)  # fmt: skip
def test_a_killed_training_goes_on_bit_for_bit(
    family: str, kind: str, more: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    changes = {
        "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3, "per_device_train_batch_size": 4,
        "eval_strategy": "steps", "eval_steps": 4, "logging_steps": 2, **more,
    }  # fmt: skip
    options: dict[str, Any] = {"kind": kind, "family": family, "seed": seed, "dropout": True}
    whole = _trained(tmp_path / "whole", changes=changes, **options)
    with pytest.raises(_Stop):
        _trained(tmp_path / "killed", changes=changes, callbacks=[_Killer(8)], **options)
    torch.rand(7)
    np.random.rand(3)
    resumed = _trained(tmp_path / "killed", changes=changes, resume=True, callbacks=[Watching()], **options)
    _equal(whole, resumed)
    assert _without_times(whole) == _without_times(resumed)


def test_a_large_vocabulary_late_rows_and_resume(seed: int, tmp_path: Path) -> None:
    """Rows of the embedding are late here: saved and resumed, evaluated and logged, they are as in time."""
    changes = {
        "save_strategy": "steps",
        "save_steps": 4,
        "max_steps": 9,
        "eval_strategy": "steps",
        "eval_steps": 3,
    }
    made = [
        _trained(tmp_path / name, seed=seed, changes=changes,
                 network=model("bert", "labels", seed, vocabulary=5000), callbacks=[Watching(reads)])
        for name, reads in (("late", False), ("early", True))
    ]  # fmt: skip
    _equal(*made)
    again = _trained(
        tmp_path / "late", seed=seed, changes=changes, resume=str(tmp_path / "late" / "checkpoint-4"),
        network=model("bert", "labels", seed, vocabulary=5000),
    )  # fmt: skip
    _equal(again, made[0])


def test_a_damaged_checkpoint_is_passed_over_and_a_changed_training_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = _trained(tmp_path, changes=changes)
    last = tmp_path / "checkpoint-6" / "optimizer.safetensors"
    last.write_bytes(last.read_bytes()[:-1] + b"x")
    _equal(_trained(tmp_path, changes=changes, resume=True), whole)
    assert "checkpoint-6 is not valid" in caplog.text
    for changed, word in (
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"train_dataset": [*rows("labels", 3)[:30], *rows("labels", 77)[30:]]}, "contents of the rows"),
    ):
        more = {"train_dataset": changed["train_dataset"]} if "train_dataset" in changed else {}
        values = {**changes, **({} if more else changed)}
        with pytest.raises(RunError, match=word):
            _trained(tmp_path, changes=values, resume=True, **more)
    with pytest.raises(RunError, match="no valid checkpoint"):
        _trained(tmp_path / "empty", changes=changes, resume=True)
    stock = _trained(tmp_path / "stock", changes=changes, cls=transformers.Trainer)
    with pytest.raises(RunError, match="another Trainer"):
        _trained(tmp_path, changes=changes, resume=f"{stock.args.output_dir}/checkpoint-6")


def test_checkpoints_are_models_and_hold_nothing_pickled(tmp_path: Path) -> None:
    made = _trained(tmp_path, changes={"save_strategy": "epoch", "save_total_limit": 1})
    assert [each.name for each in tmp_path.glob("checkpoint-*")] == ["checkpoint-10"]
    folder = tmp_path / "checkpoint-10"
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config._attn_implementation == "sdpa"
    for name, each in weights_of(loaded).items():
        assert torch.equal(each, made.model.state_dict()[name])
    assert all(file.suffix in (".json", ".safetensors") for file in folder.iterdir())
    made.save_model(str(tmp_path / "final"))
    assert {file.name for file in (tmp_path / "final").iterdir()} >= {"config.json", "model.safetensors"}


def _accuracy(told: Any) -> dict[str, float]:
    return {"accuracy": float((told.predictions == told.label_ids).mean())}


def test_metrics_early_stopping_and_the_best_model(seed: int, tmp_path: Path) -> None:
    changes = {
        "eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 12, "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy", "greater_is_better": True, "save_total_limit": 1, "learning_rate": 3e-3,
    }  # fmt: skip
    for cls in (transformers.Trainer, graftlm.Trainer):
        folder = tmp_path / cls.__module__
        made = _trained(
            folder, seed=seed, cls=cls, changes=changes, compute_metrics=_accuracy,
            callbacks=[EarlyStoppingCallback(2)],
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        )  # fmt: skip
        told = [each["eval_accuracy"] for each in made.state.log_history if "eval_accuracy" in each]
        assert len(told) < 12 or told[-1] > max(told[:-2])
        assert made.state.best_metric == max(told)
        assert made.evaluate()["eval_accuracy"] == max(told)
        kept = {each.name for each in folder.glob("checkpoint-*")}
        assert Path(made.state.best_model_checkpoint).name in kept and len(kept) <= 2


def test_a_loss_that_is_not_a_number_stops_and_saves_nothing(tmp_path: Path) -> None:
    network = model("bert", "labels", 1)
    with torch.no_grad():
        network.classifier.weight[0, 0] = torch.nan
    before = weights_of(network)
    with pytest.raises(Diverged, match="step 1: loss nan") as raised:
        _trained(tmp_path, network=network, changes={"save_strategy": "steps", "save_steps": 1})
    assert len(raised.value.rows) == 8
    assert not list(tmp_path.glob("checkpoint-*"))
    assert all(
        torch.equal(each.nan_to_num(), before[name].nan_to_num())
        for name, each in weights_of(network).items()
    )
    made = trainer(graftlm.Trainer, network, "labels", arguments(tmp_path), 1)
    with pytest.raises(Diverged, match="Evaluation"):
        made.evaluate()
    with pytest.raises(RunError, match="not finite"):
        made.save_model(str(tmp_path / "model"))


def test_a_gradient_from_before_moves_nothing(tmp_path: Path, seed: int) -> None:
    """Neither what a trial pass has left, nor the NaN of a training that has diverged."""
    network = model("bert", "labels", seed)
    whole = _trained(tmp_path, network=copy.deepcopy(network), seed=seed)
    batch = collate(rows("labels", seed, 4))
    network(**batch).loss.backward()
    network.classifier.weight.grad.fill_(torch.nan)
    tried = _trained(tmp_path, network=network, seed=seed)
    assert _losses(tried) == _losses(whole)
    _equal(tried, whole)


def _labelled_padding(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Labels as copies of ids, padding and all, as scripts for GPT-2 have them."""
    made = collate(batch)
    return {**made, "labels": made["input_ids"].clone()}


@pytest.mark.parametrize(("family", "kind"), [("gpt2", "causal"), ("bert", "tags")])
def test_labels_at_padding_are_learnt_as_by_the_stock_trainer(
    family: str, kind: str, seed: int, tmp_path: Path
) -> None:
    found: list[Any] = []
    for cls in (transformers.Trainer, graftlm.Trainer):
        made = trainer(cls, model(family, kind, seed), kind, arguments(tmp_path), seed)
        made.data_collator = _labelled_padding if kind == "causal" else _tagged_padding
        made.train()
        found.append(made)
    np.testing.assert_allclose(_losses(found[1]), _losses(found[0]), rtol=1e-5)
    assert found[1].padded_because == "labels stand at its padding"


def _tagged_padding(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    made = collate(batch)
    return {**made, "labels": made["labels"].masked_fill(made["attention_mask"] == 0, 0)}


class _Renamed(transformers.BertPreTrainedModel):
    """A network whose labels of tokens have a name of their own."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, 3)
        self.post_init()

    def forward(self, input_ids: Any = None, attention_mask: Any = None, token_labels: Any = None) -> Any:
        logits = self.classifier(self.bert(input_ids, attention_mask=attention_mask).last_hidden_state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), token_labels.flatten())
        return {"loss": loss, "logits": logits}


def test_labels_of_tokens_by_another_name_are_counted_as_tokens(seed: int, tmp_path: Path) -> None:
    def renamed(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        made = collate(batch)
        return {"token_labels": made.pop("labels"), **made}

    base, found = model("bert", "tags", seed), []
    for micro, parts in ((8, 1), (2, 4)):
        torch.manual_seed(seed)
        network = _Renamed(base.config)
        changes = {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": parts,
            "remove_unused_columns": False,
        }
        made = trainer(graftlm.Trainer, network, "tags", arguments(tmp_path, **changes), seed)
        made.data_collator = renamed
        made.train()
        found.append(_losses(made))
    assert made.label_names == ["token_labels"]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_a_body_without_a_head_works_padded_and_gives_all_its_tokens(seed: int, tmp_path: Path) -> None:
    config = model("bert", "labels", seed).config
    torch.manual_seed(seed)
    body = transformers.BertModel(config).requires_grad_(False)
    wanted = rows("labels", seed, 8, same_length=9)
    made = trainer(graftlm.Trainer, body, "labels", arguments(tmp_path), seed)
    found = made.predict([{"input_ids": row["input_ids"]} for row in wanted]).predictions
    inputs = {name: each for name, each in collate(wanted).items() if name != "labels"}
    np.testing.assert_allclose(found[0], body.eval()(**inputs).last_hidden_state.numpy(), atol=1e-5)
    assert made.padded_because.startswith("nobody knows what it says")


def test_a_training_that_goes_on_under_other_conditions_says_so(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    _trained(tmp_path, changes=changes, seed=seed)
    _trained(tmp_path, changes=changes, seed=seed, resume=str(tmp_path / "checkpoint-3"))
    assert "bit for bit" not in caplog.text
    monkeypatch.setattr("graftlm.training.conditions.FORMULA", 99)
    _trained(tmp_path, changes=changes, seed=seed, resume=str(tmp_path / "checkpoint-3"))
    assert "now formula 99: the run continues, but not bit for bit" in caplog.text
    assert caplog.text.count("bit for bit") == 1


class _OwnLoss(graftlm.Trainer):
    """Two passes of each batch, as R-Drop has it."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        loss = (outputs.loss + model(**inputs).loss) / 2
        return (loss, outputs) if return_outputs else loss


def _smooth(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def _mean(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return nn.functional.cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize(
    "options",
    [
        {"cls": _OwnLoss},
        {"compute_loss_func": _smooth},
        {"compute_loss_func": _mean},
        {"label_smoothing_factor": 0.1},
    ],
)
def test_losses_of_the_users_are_means_over_the_step(
    options: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    smoothing = options.pop("label_smoothing_factor", 0.0)
    found: list[Any] = []
    for micro in (12, 5):
        changes = {
            "per_device_train_batch_size": micro, "gradient_accumulation_steps": 12 // micro or 1, "max_steps": 3,
            "label_smoothing_factor": smoothing,
        }  # fmt: skip
        if micro == 5:
            changes |= {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}
        found.append(_trained(tmp_path, seed=seed, changes=changes, **options))
    np.testing.assert_allclose(_losses(found[0]), _losses(found[1]), rtol=1e-5)
    if "cls" not in options:
        stock = _trained(tmp_path, seed=seed, cls=transformers.Trainer, **options,
                         changes={"per_device_train_batch_size": 12, "max_steps": 3,
                                  "label_smoothing_factor": smoothing})  # fmt: skip
        np.testing.assert_allclose(_losses(found[0]), _losses(stock), rtol=1e-5)


class _Plain(nn.Module):
    """No model of transformers: a bag of words that returns its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(VOCABULARY, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        logits = self.head(self.words(input_ids))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def test_a_module_of_the_users_trains_padded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changes = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6, "seed": 5}
    torch.manual_seed(1)
    first = _Plain()
    whole = _trained(tmp_path, network=first, changes=changes)
    assert "padded batches" in caplog.text
    again = _trained(tmp_path, network=_Plain(), changes=changes, resume=str(tmp_path / "checkpoint-3"))
    _equal(whole, again)


def test_layers_that_are_told_are_padded_and_said(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without padding they would be of another shape, and the last of first tokens alone."""
    found: list[Any] = []
    for cls in (transformers.Trainer, graftlm.Trainer):
        network = model("bert", "labels", seed)
        made = trainer(cls, network, "labels", arguments(tmp_path), seed)
        assert cls is transformers.Trainer or not made.padded_because
        network.config.output_hidden_states = True
        _, layers = made.predict(rows("labels", seed, 8, same_length=9)).predictions
        found.append(layers)
    assert [each.shape for each in found[1]] == [(8, 9, 32)] * 3
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert made.padded_because.startswith("output_hidden_states")
    assert caplog.text.count("padded batch: output_hidden_states") == 1


def test_a_pass_that_cannot_be_laid_flat_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def with_positions(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        made = collate(batch)
        return {**made, "position_ids": torch.arange(made["input_ids"].shape[1]).expand_as(made["input_ids"])}

    def on_the_left(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        made = collate(batch)
        return {name: each.flip(1) if each.ndim == 2 else each for name, each in made.items()}

    for collator, reason in ((with_positions, "position_ids"), (on_the_left, "does not stand behind")):
        made = trainer(
            graftlm.Trainer, model("bert", "labels", 1), "labels", arguments(tmp_path, max_steps=3), 1
        )
        made.data_collator = collator
        made.train()
        assert reason in made.padded_because
        assert sum(reason in record.message for record in caplog.records) == 1


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")
def test_a_model_may_be_given_to_a_second_trainer(seed: int, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    network, options = (
        model("bert", "labels", seed, dropout=True),
        {"changes": {"max_steps": 3}, "seed": seed},
    )
    first = _trained(tmp_path, network=network, **options)
    second = _trained(tmp_path, network=network, **options)
    assert [first.padded_because, second.padded_because] == ["", ""]
    fresh = model("bert", "labels", seed, dropout=True)
    for _ in range(2):
        fresh.load_state_dict(_trained(tmp_path, network=copy.deepcopy(fresh), **options).model.state_dict())
    for name, each in weights_of(network).items():
        assert torch.equal(each, weights_of(fresh)[name]), name
    # Adapters inside what is read for first tokens only: tried again, and seen.
    settings = peft.LoraConfig(r=2, target_modules=["key", "value"], init_lora_weights=False)
    adapted = trainer(
        graftlm.Trainer, peft.get_peft_model(network, settings), "labels", arguments(tmp_path), seed
    )
    wanted = rows("labels", 4, 16)
    found = adapted.predict(wanted).predictions
    with torch.no_grad():
        padded = adapted.model(
            **{name: each for name, each in collate(wanted).items() if name != "labels"}
        ).logits
    np.testing.assert_allclose(found, padded.numpy(), atol=1e-5)


def test_losses_of_several_kinds_take_no_micro_batches(seed: int, tmp_path: Path) -> None:
    assert not _trained(tmp_path, "pairs", seed=seed, changes={"max_steps": 2}).padded_because
    with pytest.raises(ConfigurationError, match=r"labels, next_sentence_label.*counted apart"):
        _trained(tmp_path, "pairs", seed=seed, changes={"gradient_accumulation_steps": 2})


def test_frozen_bodies_and_other_loaders(tmp_path: Path) -> None:
    network = model("bert", "labels", 1)
    network.bert.requires_grad_(False)
    before = weights_of(network)
    made = _trained(
        tmp_path, network=network, changes={"train_sampling_strategy": "sequential", "max_steps": 3}
    )
    changed = {name for name, each in weights_of(network).items() if not torch.equal(each, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert not made.padded_because

    class Balanced(graftlm.Trainer):
        def get_train_dataloader(self) -> Any:
            sampler = torch.utils.data.WeightedRandomSampler([1.0] * 40, 24)
            return torch.utils.data.DataLoader(self.train_dataset, 8, sampler=sampler, collate_fn=collate)

    changes = {"save_strategy": "steps", "save_steps": 2}
    one, other = (
        _trained(tmp_path / "b", cls=Balanced, dropout=True, changes=changes, resume=go)
        for go in (None, str(tmp_path / "b" / "checkpoint-4"))
    )  # fmt: skip
    assert one.state.global_step == 6
    _equal(one, other)


def test_predictions_stand_in_the_order_of_the_rows(tmp_path: Path) -> None:
    made = _trained(tmp_path, changes={"train_sampling_strategy": "group_by_length", "max_steps": 2})
    wanted = rows("labels", 9, 30)
    together = made.predict(wanted)
    alone = np.concatenate([made.predict([row]).predictions for row in wanted])
    np.testing.assert_allclose(together.predictions, alone, atol=1e-5)
    assert together.label_ids.tolist() == [row["labels"] for row in wanted]


def test_callbacks_are_in_charge(tmp_path: Path) -> None:
    class Commands(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
            control.should_log = state.global_step == 2
            control.should_evaluate = state.global_step == 3
            control.should_save = state.global_step == 4
            control.should_training_stop = state.global_step == 5
            return control

    events: list[Any] = []
    for cls in (transformers.Trainer, graftlm.Trainer):
        watching = Watching()
        made = _trained(
            tmp_path / cls.__module__, cls=cls, callbacks=[Commands(), watching],
            changes={"logging_steps": 100, "gradient_accumulation_steps": 2, "num_train_epochs": 4,
                     "eval_on_start": True},
        )  # fmt: skip
        assert made.state.global_step == 5
        events.append(watching.events)
        assert (Path(made.args.output_dir) / "checkpoint-4").is_dir()
    assert events[0] == events[1]


def test_a_callback_between_epochs_finds_no_weight_late(seed: int, tmp_path: Path) -> None:
    class Epochs(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[torch.Tensor] = []

        def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any, **others: Any) -> None:
            self.seen.append(model.get_input_embeddings().weight.detach().clone())

        on_epoch_begin = on_epoch_end

    watching = [Epochs(), Epochs()]
    for own, others in zip(watching, ([], [Watching()]), strict=True):
        network = model("bert", "labels", seed, vocabulary=5000)
        _trained(tmp_path, network=network, callbacks=[own, *others], changes={"weight_decay": 0.1})
    assert len(watching[0].seen) == 4
    assert all(map(torch.equal, watching[0].seen, watching[1].seen))


def test_gradients_that_a_callback_sees_are_clipped_and_whole(tmp_path: Path) -> None:
    class Norms(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_pre_optimizer_step(
            self, args: Any, state: Any, control: Any, model: Any, **others: Any
        ) -> None:
            gradients = [each.grad for each in model.parameters()]
            assert model.get_input_embeddings().weight.grad is not None
            self.seen.append(float(nn.utils.get_total_norm([each for each in gradients if each is not None])))

    norms = Norms()
    network = model("bert", "labels", 1, vocabulary=5000)
    made = _trained(
        tmp_path, network=network, callbacks=[norms], changes={"max_grad_norm": 0.01, "max_steps": 3}
    )
    assert norms.seen == pytest.approx([0.01] * 3, rel=1e-3)
    assert made.state.log_history[0]["grad_norm"] > 0.01


def test_an_answer_at_padding_is_refused(tmp_path: Path) -> None:
    data = rows("spans", 1, 8)
    data[0]["input_ids"] = data[0]["input_ids"][:5]
    data[0] |= {"start_positions": 4, "end_positions": 7}
    with pytest.raises(DataError, match="end is token 7"):
        _trained(tmp_path, "spans", train_dataset=data)


def test_padding_never_competes_for_an_answer(seed: int, tmp_path: Path) -> None:
    data = [row for length in (6, 9, 14) for row in rows("spans", seed, 4, length)]
    made = trainer(graftlm.Trainer, model("bert", "spans", seed), "spans", arguments(tmp_path), seed)
    together = made.evaluate(data)["eval_loss"]
    alone = [made.evaluate([row])["eval_loss"] for row in data]
    assert together == pytest.approx(np.mean(alone), rel=1e-5)
    starts, _ = made.predict(data).predictions
    assert np.isfinite(starts).all() and (starts[0].argmax() < 6)


def test_model_init_bf16_workers_and_several_data_sets(tmp_path: Path) -> None:
    made = graftlm.Trainer(
        model_init=lambda: model("bert", "labels", 4), data_collator=collate, train_dataset=rows("labels", 1),
        eval_dataset={"one": rows("labels", 2, 9), "two": rows("labels", 3, 5)},
        args=arguments(tmp_path, max_steps=3, bf16=True, dataloader_num_workers=1, eval_strategy="steps", eval_steps=3),
    )  # fmt: skip
    made.train()
    assert {"eval_one_loss", "eval_two_loss"} <= {key for each in made.state.log_history for key in each}
    first = _losses(made)
    made.train()
    assert _losses(made) == first
    assert json.dumps(made.state.log_history)
    shutil.rmtree(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")
def test_adapters_of_peft_train_without_padding_and_resume(seed: int, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted(start: int) -> Any:
        torch.manual_seed(start)
        settings = peft.LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
        return peft.get_peft_model(model("bert", "labels", seed, True), settings)

    changes = {"save_strategy": "steps", "save_steps": 3, "max_steps": 7, "label_names": ["labels"]}
    whole = _trained(tmp_path, network=adapted(1), changes=changes)
    assert not whole.padded_because
    again = _trained(tmp_path, network=adapted(2), changes=changes, resume=str(tmp_path / "checkpoint-3"))
    _equal(whole, again)
    assert (tmp_path / "checkpoint-3" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "checkpoint-3" / "model.safetensors").exists()
