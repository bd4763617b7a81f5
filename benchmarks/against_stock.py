"""Same model, same hyper-parameters: is the score of GraftLM that of ``transformers.Trainer``?

    python benchmarks/against_stock.py

For each data set and seed three trainings, all without a validation split and with the last weights:

- ours: `graftlm.finetune`;
- stock, paired: the Trainer with our new head, our order of batches and our keyed dropout, so that what differs is
  the loop;
- stock, independent: the Trainer as people use it, with its own head, shuffling and dropout.

Each difference (ours - stock) comes with a 95 % interval: rows are drawn with replacement, the same rows for both
sides and all seeds. A run that is on file is not repeated. ``--table`` trains nothing and shows what is on file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import add_parallel_arguments, common_arguments
from data_sets import Rows, TextSet, load, shared_data
from datasets import Dataset
from numpy.typing import NDArray
from records import machine, read_runs, run_key, show, stopwatch
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

import graftlm
from graftlm.models.locating import locate
from graftlm.preparation import build_model, prepare
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.rundir import write_json
from graftlm.training.batching import epoch_batches
from graftlm.training.randomness import dropout_seed

RESULTS = Path(__file__).parent / "results" / "against_stock.json"
BASE = "bundled:minilm-l6"
BATCH, LONGEST, WEIGHT_DECAY, WARMUP, CLIP = 16, 128, 0.01, 0.1, 1.0
SIDES = ("ours", "stock_paired", "stock_independent")
RESAMPLES = 10_000
BOUND_POINTS = -0.5


@dataclass(frozen=True)
class Setting:
    """What differs between the data sets."""

    epochs: int
    learning_rate: float


SETTINGS = {"sst2": Setting(2, 5e-5), "trec": Setting(5, 1e-4)}


def options(setting: Setting, seed: int) -> dict[str, Any]:
    """Return the recipe keys of our side."""
    return {
        "base": BASE,
        "seed": seed,
        "data.validation_share": 0.0,
        "task.max_length_tokens": LONGEST,
        "training.epochs": setting.epochs,
        "training.learning_rate": setting.learning_rate,
        "training.batch_size": BATCH,
        "training.order": "shuffled",
        "strategy.layer_decay": 1.0,
        "training.weight_decay": WEIGHT_DECAY,
        "training.warmup_share": WARMUP,
        "training.max_gradient_norm": CLIP,
        "training.keep": "last",
        "training.device": "cpu",
        "evaluation.proof": "none",
    }


def train_ours(data: TextSet, setting: Setting, seed: int) -> list[str]:
    """Return the label our model gives to each test row."""
    with tempfile.TemporaryDirectory() as folder:
        splits = {"train": data.train, "test": data.test}
        run = graftlm.finetune(
            splits, run_directory=Path(folder) / "run", quiet=True, **options(setting, seed)
        )
        lines = run.directory.predictions("test").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["label"] for line in lines]


def train_stock_independent(data: TextSet, setting: Setting, seed: int) -> list[str]:
    """Return the label the Trainer's model gives to each test row, everything its own."""
    labels = sorted({row["label"] for row in data.train})
    folder = locate(BASE).folder
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
    return _train_stock(Trainer, model, folder, data, labels, setting, seed)


def train_stock_paired(data: TextSet, setting: Setting, seed: int) -> list[str]:
    """Return the label the Trainer's model gives to each test row, with our head, batches and dropout."""
    recipe = load_recipe(overrides=options(setting, seed))
    prepared = prepare(recipe, {"train": data.train, "test": data.test}, Silent())
    lengths = prepared.examples["train"].lengths
    if prepared.dataset.splits["train"].columns["text"] != [row["text"] for row in data.train]:
        raise SystemExit("our training rows are not the given ones in the given order: nothing to pair")

    def same_batches(**arguments: Any) -> Trainer:
        return PairedTrainer(lengths, seed, **arguments)

    model = build_model(recipe, prepared, Silent())
    return _train_stock(
        same_batches, model, prepared.base.folder, data, list(prepared.learnt.labels), setting, seed
    )


class PairedTrainer(Trainer):
    """The stock loop fed with our order of rows and our dropout streams."""

    def __init__(self, lengths: NDArray[np.int64], seed: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lengths, self.run_seed = lengths, seed

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader whose batches are those of our loop."""
        batches = EpochBatches(self.lengths, self.run_seed)
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        """Compute the stock loss under the dropout seed of this step."""
        with dropout_seed(self.args.device, self.run_seed, self.state.global_step, 0, 0):
            return super().compute_loss(model, inputs, *others, **more)


class EpochBatches:
    """Our batches, one epoch more at each iteration."""

    def __init__(self, lengths: NDArray[np.int64], seed: int) -> None:
        self.lengths, self.seed, self.epoch = lengths, seed, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // BATCH)

    def __iter__(self) -> Iterator[list[int]]:
        batches = epoch_batches(self.lengths, BATCH, "shuffled", self.seed, self.epoch)
        self.epoch += 1
        return (rows.tolist() for rows in batches)


def _train_stock(
    trainer_class: Callable[..., Trainer],
    model: Any,
    folder: Path,
    data: TextSet,
    labels: list[str],
    setting: Setting,
    seed: int,
) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(rows: Rows) -> Any:
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=LONGEST)
        return Dataset.from_dict({**encoded, "labels": [labels.index(row["label"]) for row in rows]})

    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            seed=seed,
            num_train_epochs=setting.epochs,
            learning_rate=setting.learning_rate,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=32,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=WARMUP,
            lr_scheduler_type="linear",
            max_grad_norm=CLIP,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=encode(data.train),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        logits = np.asarray(trainer.predict(encode(data.test or [])).predictions)
    return [labels[position] for position in logits.argmax(axis=1)]


TRAIN = {"ours": train_ours, "stock_paired": train_stock_paired, "stock_independent": train_stock_independent}


def compare(runs: list[dict[str, Any]], data: str, stock: str) -> dict[str, Any] | None:
    """Return ours - stock in points, over the seeds that both sides have, with its paired interval."""
    own = {run["seed"]: run for run in runs if run["data"] == data and run["side"] == "ours"}
    other = {run["seed"]: run for run in runs if run["data"] == data and run["side"] == stock}
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return None
    ours, theirs = (np.array([_flags(side[seed]) for seed in seeds]) for side in (own, other))
    by_row = (ours.astype(float) - theirs).mean(axis=0)  # [rows]
    random = np.random.default_rng(0)
    drawn = random.integers(len(by_row), size=(RESAMPLES, len(by_row)))
    low, high = np.quantile(100 * by_row[drawn].mean(axis=1), [0.025, 0.975])
    changed = [
        sum(a != b for a, b in zip(own[seed]["predicted"], other[seed]["predicted"], strict=True))
        for seed in seeds
    ]
    return {
        "data": data,
        "stock": stock,
        "rows": len(by_row),
        "seeds": seeds,
        "ours": [round(100 * float(row.mean()), 2) for row in ours],
        "theirs": [round(100 * float(row.mean()), 2) for row in theirs],
        "difference_points": round(100 * float(by_row.mean()), 3),
        "interval_points": [round(float(low), 3), round(float(high), 3)],
        "within_bound": bool(low >= BOUND_POINTS),
        "rows_decided_differently": changed,
    }


def _flags(run: dict[str, Any]) -> list[bool]:
    return [flag == "1" for flag in run["correct"]]


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    lines = [
        "| data | rows | against | seeds | ours, % | stock, % | ours - stock, points | 95 % interval | lower bound "
        ">= -0.5 | rows decided differently |",
        "|---|---:|---|---|---|---|---:|---|---|---|",
    ]
    for found in document["comparisons"]:
        low, high = found["interval_points"]
        lines.append(
            f"| {found['data']} | {found['rows']} | {found['stock'].replace('_', ', ')} "
            f"| {_joined(found['seeds'])} | {_joined(found['ours'])} | {_joined(found['theirs'])} "
            f"| {found['difference_points']:+.2f} | [{low:+.2f}, {high:+.2f}] "
            f"| {'yes' if found['within_bound'] else 'no'} | {_joined(found['rows_decided_differently'])} |"
        )
    lines += ["", "| data | side | runs | processor s, mean | wall s, mean |", "|---|---|---:|---:|---:|"]
    for data in SETTINGS:
        for side in SIDES:
            seconds = [r["seconds"] for r in document["runs"] if r["data"] == data and r["side"] == side]
            if seconds:
                processor, wall = (np.mean([s[kind] for s in seconds]) for kind in ("processor", "wall"))
                lines.append(
                    f"| {data} | {side.replace('_', ', ')} | {len(seconds)} | {processor:.0f} | {wall:.0f} |"
                )
    return "\n".join(lines)


def _joined(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def main() -> None:
    parser = common_arguments(__doc__, SETTINGS, [1, 2, 3], RESULTS)
    parser.add_argument("--sides", choices=SIDES, nargs="*", default=list(SIDES))
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, summarise(read_runs(arguments.output, *arguments.add)))
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        train_all(arguments)
    document = summarise(read_runs(arguments.output))
    show("against_stock", tables(document), into_page=arguments.output == RESULTS)


def train_all(arguments: argparse.Namespace) -> None:
    """Train what is not on file yet, seed by seed, and write the file after each run."""
    folder = shared_data(arguments.shared_data)
    for seed in arguments.seeds:
        for name in arguments.data:
            data, setting = load(name, folder), SETTINGS[name]
            for side in arguments.sides:
                key = run_key(data=name, side=side, seed=seed, **vars(setting))
                if any(run["key"] == key for run in read_runs(arguments.output)):
                    continue
                result = measure(side, data, setting, seed)
                run = {"key": key, "data": name, "side": side, "seed": seed, **result}
                # Read again: another process may have written in the meantime.
                write_json(arguments.output, summarise([*read_runs(arguments.output), run]))
                print(f"{name} seed {seed} {side}: {run['score']:.4f} {run['seconds']}", flush=True)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of the result file: every comparison that the runs allow, and the runs."""
    runs = sorted(runs, key=lambda run: (run["data"], run["seed"], run["side"]))
    found = [compare(runs, data, stock) for data in SETTINGS for stock in SIDES[1:]]
    return {"comparisons": [one for one in found if one is not None], "runs": runs}


def measure(side: str, data: TextSet, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one side once; one character a test row says which label it got, another whether that is right."""
    with stopwatch() as seconds:
        predicted = TRAIN[side](data, setting, seed)
    correct = [label == row["label"] for label, row in zip(predicted, data.test or [], strict=True)]
    return {
        "score": sum(correct) / len(correct),
        "correct": "".join(str(int(flag)) for flag in correct),
        "predicted": "".join(predicted),
        "seconds": seconds,
        "machine": machine(),
    }


if __name__ == "__main__":
    main()
