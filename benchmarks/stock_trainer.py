"""``transformers.Trainer`` on the rows and hyper-parameters of one of our recipes, for every kind of answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from numpy.typing import NDArray
from stock_writing import collator_of_texts, encoded_texts, written_records
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from graftlm.data.features import IGNORED
from graftlm.data.words import words_of
from graftlm.opening import open_rows
from graftlm.preparation import Prepared, build_model, prepare, resolve_learning_rate
from graftlm.progress import Silent
from graftlm.recipe import Recipe
from graftlm.training.batching import epoch_batches
from graftlm.training.randomness import dropout_seed


def train_paired(splits: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the Trainer's model says about each test row, with our head, batches and dropout streams."""
    recipe, prepared = _prepared(splits, options)
    lengths = prepared.examples["train"].lengths

    def same_batches(**arguments: Any) -> Trainer:
        return PairedTrainer(lengths, recipe, **arguments)

    model = build_model(recipe, prepared, Silent())
    if hasattr(model, "qa_outputs"):
        without_padding(model)
    return _train(same_batches, model, recipe, prepared)


def train_independent(splits: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the Trainer's model says about each test row, everything its own."""
    recipe, prepared = _prepared(splits, options)
    task: Any = recipe.task
    set_seed(recipe.seed)
    model = getattr(transformers, task.architectures[0]).from_pretrained(
        prepared.base.folder, **task.model_options(prepared.learnt)
    )
    return _train(Trainer, model, recipe, prepared)


class PairedTrainer(Trainer):
    """The stock loop fed with our order of rows and our dropout streams."""

    def __init__(self, lengths: NDArray[np.int64], recipe: Recipe, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lengths, self.recipe = lengths, recipe

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader whose batches are those of our loop."""
        batches = EpochBatches(self.lengths, self.recipe)
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        """Compute the stock loss under the dropout seed of this step."""
        with dropout_seed(self.args.device, self.recipe.seed, self.state.global_step, 0, 0):
            return super().compute_loss(model, inputs, *others, **more)


class EpochBatches:
    """Our batches, one epoch more at each iteration."""

    def __init__(self, lengths: NDArray[np.int64], recipe: Recipe) -> None:
        self.lengths, self.recipe, self.epoch = lengths, recipe, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.recipe.training.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        training = self.recipe.training
        batches = epoch_batches(
            self.lengths, training.batch_size, training.order, self.recipe.seed, self.epoch
        )
        self.epoch += 1
        return (rows.tolist() for rows in batches)


def _prepared(splits: Any, options: dict[str, Any]) -> tuple[Recipe, Prepared]:
    recipe, tables = open_rows(None, options, splits)
    return recipe, prepare(recipe, tables, Silent())


def without_padding(model: Any) -> None:
    """Let only real tokens compete for the answer, as in our loss; heads of transformers let padding compete."""
    real: list[torch.Tensor] = []

    def remember(module: Any, arguments: Any, inputs: dict[str, Any]) -> None:
        real[:] = [inputs["attention_mask"].unsqueeze(-1) == 1]

    def only_real(module: Any, arguments: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(~real[0], -torch.inf)

    model.register_forward_pre_hook(remember, with_kwargs=True)
    model.qa_outputs.register_forward_hook(only_real)


def _train(
    trainer_class: Callable[..., Trainer], model: Any, recipe: Recipe, prepared: Prepared
) -> list[dict[str, Any]]:
    task: Any = recipe.task
    tokenizer: Any = AutoTokenizer.from_pretrained(prepared.base.folder)
    if task.decoding is not None:
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        collator: Any = collator_of_texts(tokenizer, model)
    elif prepared.features["train"].words:
        collator = DataCollatorForTokenClassification(tokenizer)
    else:
        collator = DataCollatorWithPadding(tokenizer)
    training = recipe.training
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            seed=recipe.seed,
            num_train_epochs=training.epochs or 1,
            learning_rate=resolve_learning_rate(recipe),
            per_device_train_batch_size=training.batch_size,
            per_device_eval_batch_size=32,
            weight_decay=training.weight_decay,
            warmup_steps=training.warmup_share,
            lr_scheduler_type="linear",
            max_grad_norm=training.max_gradient_norm or 0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=_encoded(tokenizer, recipe, prepared, "train"),
            data_collator=collator,
        )
        trainer.train()
        test = _encoded(tokenizer, recipe, prepared, "test")
        if task.decoding is not None:
            return written_records(model, tokenizer, test, prepared)
        found = trainer.predict(test)
    outputs: Any = found.predictions
    if isinstance(outputs, tuple):  # the scores of starting and of ending
        outputs = np.stack(outputs, axis=-1)
    if outputs.ndim == 3:
        lengths = prepared.examples["test"].lengths
        outputs = [each[:length] for each, length in zip(outputs, lengths, strict=True)]
    split = prepared.dataset.splits["test"]
    predictions = task.decode(outputs, split, prepared.features["test"], prepared.learnt)
    return [
        {"reference": reference, **task.record(prediction)}
        for reference, prediction in zip(task.references(split), predictions, strict=True)
    ]


def _encoded(tokenizer: Any, recipe: Recipe, prepared: Prepared, name: str) -> Any:
    """Return a split as the examples of transformers encode it; windows of contexts and conversations are ours."""
    task: Any = recipe.task
    columns: Any = prepared.dataset.splits[name].columns
    cut = {"truncation": True, "max_length": prepared.encoder.max_length_tokens}
    targets: Any = prepared.examples[name].targets
    if task.decoding is not None:
        return encoded_texts(tokenizer, recipe, prepared, name)
    if task.answer_kind == "answers":
        starts, ends = targets.T.tolist()
        inputs = prepared.features[name].inputs
        ones = [[1] * len(ids) for ids in inputs["input_ids"]]
        return Dataset.from_dict(
            {**inputs, "attention_mask": ones, "start_positions": starts, "end_positions": ends}
        )
    if prepared.features[name].words:
        rows = [list(words_of(value)) for value in columns["tokens"]]
        if len(prepared.features[name]) != len(rows):
            raise SystemExit(
                f"{name}: a row does not fit into the limit, and only we read it in windows: raise it"
            )
        encoded = tokenizer(rows, is_split_into_words=True, **cut)
        position = {label: index for index, label in enumerate(prepared.learnt.labels)}
        labels = [
            [
                IGNORED if word is None or word == before else position[tags[word]]
                for word, before in zip(words, [None, *words], strict=False)
            ]
            for words, tags in zip(map(encoded.word_ids, range(len(rows))), columns["tags"], strict=True)
        ]
        return Dataset.from_dict({**encoded, "labels": labels})
    encoded = tokenizer(columns["text"], columns.get("text_pair"), **cut)
    return Dataset.from_dict({**encoded, "labels": targets.tolist()})
