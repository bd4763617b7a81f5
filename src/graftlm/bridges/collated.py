"""The batches of a user's data loader, step by step, so that any step can be made anew."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import TrainingArguments

from graftlm.errors import ConfigurationError
from graftlm.training.randomness import dropout_seed, generator

Rows = list[int]
FINGERPRINT_ROWS = 1024
"""Most rows that are looked at for changes: a data set may make each of them when it is asked for it."""


@dataclass(frozen=True)
class MicroBatch:
    """What a collator made of some rows of the data set."""

    rows: Rows
    inputs: Mapping[str, Any]


class TrainingBatches:
    """What the loader of a Trainer gives, in steps of a few micro-batches.

    The loader is asked for its rows only: which, in which order, in which batches. They are read and collated here,
    with all generators set by (seed, step), so that a resumed run reads what an uninterrupted one would have read.

    Args:
        loader: of `transformers.Trainer.get_train_dataloader`, or a user's own.
        arguments: the seed, the accumulation and how many processes collate.

    Raises:
        ConfigurationError: the loader has no rows to name.
    """

    def __init__(self, loader: DataLoader[Any], arguments: TrainingArguments) -> None:
        if getattr(loader, "batch_sampler", None) is None or isinstance(loader.dataset, IterableDataset):
            raise ConfigurationError(
                "the training data is a stream: its rows have no numbers, so no run could be continued exactly",
                where="train_dataset",
                fix="give a data set with rows and a length, such as datasets.Dataset or a list of dicts",
            )
        self.loader, self._arguments = loader, arguments
        self.micro_batches = len(loader)
        self.steps = -(-self.micro_batches // arguments.gradient_accumulation_steps)
        if not self.steps:
            raise ConfigurationError(
                "the training data gives not a single batch",
                where="train_dataset",
                fix="give more rows, or a smaller per_device_train_batch_size, or leave out dataloader_drop_last",
            )

    @property
    def rows(self) -> int:
        """Examples of the data set."""
        return len(self.loader.dataset)  # pyright: ignore[reportArgumentType]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of what the collator makes of the rows; of many rows, of some that are spread over all of them."""
        places = np.unique(np.linspace(0, self.rows - 1, min(self.rows, FINGERPRINT_ROWS)).astype(np.int64))
        digest = hashlib.sha256()
        with _generators(self._arguments.seed, "fingerprint"):
            for start in range(0, len(places), 8):
                rows = read_rows(self.loader.dataset, places[start : start + 8].tolist())
                batch: Any = self.loader.collate_fn(rows)
                for name, value in sorted(batch.items()):
                    digest.update(name.encode())
                    digest.update(str(value.tolist() if isinstance(value, Tensor) else value).encode())
        return digest.hexdigest()

    def order(self, epoch: int) -> list[list[Rows]]:
        """Return the rows of every micro-batch of every step of an epoch; ask for epochs in turn."""
        every = self._arguments.gradient_accumulation_steps
        with _generators(self._arguments.seed, "order", epoch):
            if hasattr(self.loader, "set_epoch"):
                self.loader.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
            batches: Any = self.loader.batch_sampler
            rows = [[int(row) for row in batch] for batch in batches]
        return [rows[start : start + every] for start in range(0, len(rows), every)]

    def read(self, order: list[list[Rows]], first_step: int, start: int) -> Iterator[list[MicroBatch]]:
        """Return the steps of an epoch from number ``start``; ``first_step`` of the run is its number 0."""
        arguments = self._arguments
        workers = arguments.dataloader_num_workers
        loader = DataLoader(
            _Steps(self.loader, order, first_step, arguments.seed),
            batch_size=None,
            sampler=range(start, len(order)),
            collate_fn=_as_it_is,
            num_workers=workers,
            multiprocessing_context=getattr(arguments, "dataloader_multiprocessing_context", None),
            prefetch_factor=arguments.dataloader_prefetch_factor if workers else None,
            pin_memory=arguments.dataloader_pin_memory and arguments.device.type == "cuda",
        )
        with _generators(arguments.seed, "loader", first_step + start):
            return iter(loader)


class _Steps(Dataset[list[MicroBatch]]):
    """The steps of one epoch, collated when asked for."""

    def __init__(self, loader: DataLoader[Any], order: list[list[Rows]], first: int, seed: int) -> None:
        self._dataset: Any = loader.dataset
        self._collate: Any = loader.collate_fn
        self._order, self._first, self._seed = order, first, seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> list[MicroBatch]:
        found: list[MicroBatch] = []
        for index, rows in enumerate(self._order[number]):
            with _generators(self._seed, "rows", self._first + number, index):
                found.append(MicroBatch(rows, self._collate(read_rows(self._dataset, rows))))
        return found


def read_rows(dataset: Any, rows: Sequence[int]) -> list[Any]:
    """Return rows of a data set, all at once where it knows how."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(list(rows)))
    return [dataset[row] for row in rows]


def count_rows(inputs: Mapping[str, Any]) -> int:
    """Return the examples of a collated batch."""
    return next((len(value) for value in inputs.values() if isinstance(value, Tensor) and value.ndim), 1)


def _as_it_is(step: list[MicroBatch]) -> list[MicroBatch]:
    return step


@contextmanager
def _generators(*key: int | str) -> Generator[None]:
    """Set the generators of torch, numpy and Python from ``key`` inside the block; give their states back after it."""
    numbers, before = np.random.get_state(), random.getstate()
    own = generator("collator", *key)
    np.random.seed(int(own.integers(2**32)))
    random.seed(int(own.integers(2**63)))
    try:
        with dropout_seed(torch.device("cpu"), *key):
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(before)
