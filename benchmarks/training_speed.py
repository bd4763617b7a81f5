"""How many times faster is a step of ours than one of ``transformers.Trainer``, at the same numbers?

    python benchmarks/training_speed.py

Three mixes of lengths: short texts, 14 tokens on average, and paragraphs of 150, both classified, and windows of 175
tokens in which an answer is marked. Sides, with batches of 16, float32, AdamW with decay 0.01, clipping, dropout 0.1:

- ours: `graftlm.training.loop.fit`; *without kernels*: the same where no compiled kernels are installed;
- trainer: `graftlm.Trainer`, given what the stock one is given;
- stock: the Trainer, padding each batch; *fixed*: every row padded to the limit; *grouped*: batches of similar length.

But for *grouped*, which makes batches of its own, all sides read the same ones in the same turn (with `head_only` the
same rows, in another order).

`--mixes sst2 goemotions conll2003 squadshifts` takes the first training rows of these sets (see `data_sets.py`), with
the head of their task, instead of random tokens.

The sides take turns, some steps each, each time in another order. What is timed is from the end of one step to the
end of the next, so that reading and padding rows counts, and the steps that rows of the embedding owe are taken
within the last step of a turn. A ratio is the median over the turns of the ratio of their seconds, its interval the
middle 95 % of that of resampled turns. Before anything is timed all sides of ours and the stock Trainer train some
steps on the same batches without dropout: where their losses differ by more than 1e-6, the benchmark fails. (Where
answers are marked the stock head lets padding compete for them, ours does not; for this check, not for the timing, its
padding is masked.) Rows are random tokens, frequent ones
frequent as in any language (Zipf); nothing has to be downloaded.

`--strategies lora head_only` measure what moves fewer weights. Both sides get the same adapters (rank 16 on all
linear layers of the body) or the same frozen body. Where the body is frozen, a turn of either side is as many steps
as three passes over the rows take (fewer where texts are read in windows), and ours keeps the features of all rows
anew in each turn; the Trainer's body drops out, ours, run once, does not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from numpy.typing import NDArray
from records import machine, read_runs, run_key, show
from stock_trainer import without_padding
from timed_rows import BATCH, DECAY, MIXES, NETWORKS, RATE, ROWS, SEED, STRATEGIES, make_training
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
)
from transformers.trainer_callback import PrinterCallback
from turns import ENDLESS, Turns, TurnsOfTrainer, Worker, take_turns, times_faster, trainer_arguments

import graftlm
from graftlm.kernels.library import VARIABLE
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import locate
from graftlm.rundir import write_json
from graftlm.training.batching import Examples, epoch_batches
from graftlm.training.frozen import keep_features
from graftlm.training.loop import Plan, fit
from graftlm.training.order import Epochs

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
SIDES = ("ours", "ours_without_kernels", "trainer", "stock", "stock_grouped", "stock_fixed")
PASSES, BATCH_TOKENS = 3, 4_096
"""Where the body is frozen: passes over the rows in a turn; tokens of a batch in which their features are made."""
EQUAL_STEPS, EQUAL = 6, 1e-6
# What the design asks for, and hopes for.
BOUNDS = {
    ("ours", "stock"): {"short": (2.3, 2.9), "paragraphs": (3.2, 4.0), "answers": (4.5, 5.6)},
    ("ours", "stock_grouped"): {"short": (1.3, 1.5), "paragraphs": (1.7, 2.1), "answers": (1.6, 1.9)},
    ("ours_without_kernels", "stock"): {"short": (1.4, 1.65), "paragraphs": (2.0, 2.45), "answers": (3.3, 4.2)},
    ("trainer", "stock"): {"short": (2.1, 2.6), "paragraphs": (2.6, 3.2), "answers": (4.2, 5.5)},
}  # fmt: skip


def plan(steps: int) -> Plan:
    """Return our steps; the Trainer gets the same by `trainer_arguments`."""
    return Plan(
        total_steps=steps, order=Epochs(BATCH, "shuffled", SEED), micro_batch=None, seed=SEED, warmup_share=0.0,
        schedule="linear", max_gradient_norm=1.0,
    )  # fmt: skip


class Ours:
    """Our side: the network, and steps that it takes."""

    def __init__(self, network: str, rows: str, dropout: float, strategy: str) -> None:
        self.training = make_training(network, rows, dropout, strategy)
        if reason := make_flat(self.training.model):
            raise SystemExit(f"the network does not work flat: {reason}")
        self.frozen = strategy == "head_only"

    def steps(self, count: int) -> Iterator[float]:
        """Yield the loss of each step; a frozen body is run before, once for each row."""
        ours, features = self.training, None
        if self.frozen:
            cpu, folder = torch.device("cpu"), Path(tempfile.gettempdir())
            features = keep_features(ours.model, ours.examples, BATCH_TOKENS, cpu, None, folder)
        for step in fit(
            ours.model, ours.examples, ours.loss, ours.optimizer, plan(count), Accelerator(cpu=True),
            features=features,
        ):  # fmt: skip
            yield step.loss


def stock_rows(examples: Examples, answers: bool) -> list[dict[str, Any]]:
    """Return the rows as the Trainer wants them."""
    targets: Any = examples.targets
    names = ("start_positions", "end_positions") if answers else ("labels",)
    found: list[dict[str, Any]] = []
    for row in range(len(examples)):
        target = np.asarray(targets[row]).tolist()
        values = target if answers else [target]
        inputs = {name: list(each[row]) for name, each in examples.inputs.items()}
        found.append({**inputs, **dict(zip(names, values, strict=True))})
    return found


class OurOrder:
    """Batches of rows as our loop takes them, another order in each pass.

    Args:
        lengths: tokens of each row.
    """

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self.lengths, self.passes = lengths, itertools.count()

    def __len__(self) -> int:
        return -(-len(self.lengths) // BATCH)

    def __iter__(self) -> Iterator[list[int]]:
        batches = epoch_batches(self.lengths, BATCH, "shuffled", SEED, next(self.passes))
        return (each.tolist() for each in batches)


class OurBatches:
    """A Trainer in our order of rows."""

    train_dataset: Any
    data_collator: Any

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of our batches."""
        rows = self.train_dataset
        order: Any = OurOrder(np.array([len(row["input_ids"]) for row in rows]))
        return DataLoader(rows, batch_sampler=order, collate_fn=self.data_collator)


class OursOnOurBatches(OurBatches, graftlm.Trainer):
    """Our Trainer."""


class StockOnOurBatches(OurBatches, Trainer):
    """The stock one."""


def stock_trainer(
    side: str, network: str, rows: str, dropout: float, strategy: str, steps: int, folder: str, **more: Any
) -> Trainer:
    """Return the Trainer of a side, with its own optimiser over the weights that move."""
    training = make_training(network, rows, dropout, strategy)
    about = ROWS[rows]
    tokenizer: Any = AutoTokenizer.from_pretrained(locate("bundled:minilm-l6").folder)
    padding: dict[str, Any] = (
        {"padding": "max_length", "max_length": about.limit} if side == "stock_fixed" else {}
    )
    if side == "stock_grouped":
        more["train_sampling_strategy"] = "group_by_length"
    of_tokens = isinstance(training.examples.targets, list)
    collator = (DataCollatorForTokenClassification if of_tokens else DataCollatorWithPadding)(
        tokenizer, **padding
    )
    kind = {"trainer": OursOnOurBatches, "stock_grouped": Trainer}.get(side, StockOnOurBatches)
    trainer = kind(
        model=training.model,
        args=trainer_arguments(folder, steps, BATCH, RATE, DECAY, **more),
        train_dataset=stock_rows(training.examples, about.answers),  # pyright: ignore[reportArgumentType]
        data_collator=collator,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def losses_of_trainer(side: str, network: str, rows: str, strategy: str) -> list[float]:
    """Return the losses of a Trainer on our batches, without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = stock_trainer(side, network, rows, 0.0, strategy, EQUAL_STEPS, folder, logging_steps=1)
        if ROWS[rows].answers and side == "stock":
            without_padding(trainer.model)
        trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def losses_of_ours(side: str, network: str, rows: str, strategy: str) -> list[float]:
    """Return ours, likewise."""
    before = os.environ.get(VARIABLE)
    if side == "ours_without_kernels":
        os.environ[VARIABLE] = "off"
    try:
        return list(Ours(network, rows, 0.0, strategy).steps(EQUAL_STEPS))
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def check_equal(network: str, rows: str, strategy: str, sides: list[str]) -> float:
    """Return how far the losses of a side of ours are from the stock ones at most, relative, on the same batches."""
    stock, largest = losses_of_trainer("stock", network, rows, strategy), 0.0
    for side in sides:
        if side.startswith("stock"):
            continue
        losses = losses_of_trainer if side == "trainer" else losses_of_ours
        ours = losses(side, network, rows, strategy)
        difference = max(abs(one - other) / other for one, other in zip(ours, stock, strict=True))
        if not difference <= EQUAL:
            raise SystemExit(f"the losses differ, so there is nothing to compare: {side} {ours} and {stock}")
        largest = max(largest, difference)
    return largest


def work(side: str, network: str, rows: str, strategy: str) -> None:
    """Be a side: train for ever, a turn at a time."""
    if side.startswith("ours"):
        turns, ours = Turns(), Ours(network, rows, 0.1, strategy)
        turns.wait()
        while True:  # for each turn where features are made anew, otherwise once
            for _ in ours.steps(turns.steps if ours.frozen else ENDLESS):
                if turns.last:
                    ours.training.optimizer.flush()  # no step is left for later
                turns.step_ended()
    with tempfile.TemporaryDirectory() as folder:
        trainer = stock_trainer(side, network, rows, 0.1, strategy, ENDLESS, folder)
        trainer.add_callback(TurnsOfTrainer(Turns()))
        trainer.train()


def measure(
    network: str, rows: str, strategy: str, sides: list[str], turns: int, threads: int
) -> dict[str, Any]:
    """Return the seconds of every step of every side, turn by turn."""
    difference = check_equal(network, rows, strategy, sides)
    words = ("--networks", network, "--mixes", rows, "--strategies", strategy, "--threads", str(threads))
    workers = {
        side: Worker(
            __file__, ("--worker", side, *words), {VARIABLE: "off"} if side == "ours_without_kernels" else {}
        )
        for side in sides
    }
    about = ROWS[rows]
    steps = PASSES * about.rows // BATCH if strategy == "head_only" else about.turn
    told = take_turns(workers, turns, steps)
    seconds = {
        side: [[round(each, 5) for each in turn["seconds"]] for turn in found] for side, found in told.items()
    }
    peaks = {side: round(found[-1]["peak_mib"]) for side, found in told.items()}
    return {"loss_difference": difference, "seconds": seconds, "peak_mib": peaks}


def ratio(run: dict[str, Any], ours: str, stock: str) -> tuple[float, float, float]:
    """Return how many times faster a side is, see `times_faster`."""
    slow, fast = ([float(np.sum(turn)) for turn in run["seconds"][side]] for side in (stock, ours))
    return times_faster(slow, fast)


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    lines = [
        "| network | rows | strategy | side | ms a step, median | peak MiB | ours is faster | without kernels "
        "| graftlm.Trainer | must, goal |",
        "|---|---|---|---|---:|---:|---|---|---|---|",
    ]
    for run in document["runs"]:
        for side in run["seconds"]:
            milliseconds = 1000 * float(np.median([np.mean(turn) for turn in run["seconds"][side]]))
            cells = [
                run["network"],
                run["mix"],
                run["strategy"],
                side.replace("_", ", "),
                f"{milliseconds:.0f}",
                f"{run['peak_mib'][side]}",
            ]
            for ours in ("ours", "ours_without_kernels", "trainer"):
                if side.startswith("stock") and ours in run["seconds"]:
                    value, low, high = ratio(run, ours, side)
                    cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}]")
                else:
                    cells.append("")
            bounds = [
                f"{must}, {goal}"
                for ours in ("ours", "ours_without_kernels", "trainer")
                if (run["network"], run["strategy"]) == ("minilm-l6", "full")
                and run["mix"] in BOUNDS.get((ours, side), {})
                for must, goal in [BOUNDS[ours, side][run["mix"]]]
            ]
            lines.append(f"| {' | '.join([*cells, '; '.join(bounds)])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", choices=NETWORKS, nargs="*", default=["minilm-l6"])
    parser.add_argument("--mixes", choices=list(ROWS), nargs="*", default=list(MIXES))
    parser.add_argument("--strategies", choices=list(STRATEGIES), nargs="*", default=["full"])
    parser.add_argument("--sides", choices=SIDES, nargs="*", default=list(SIDES))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="show what is on file, measure nothing")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.utils.logging.set_verbosity_error()
    if chosen.worker:
        work(chosen.worker, chosen.networks[0], chosen.mixes[0], chosen.strategies[0])
    runs = {run["key"]: run for run in read_runs(chosen.output)}
    wanted = itertools.product(chosen.networks, chosen.mixes, chosen.strategies)
    for network, mix, strategy in [] if chosen.table else wanted:
        found = measure(network, mix, strategy, chosen.sides, chosen.turns, chosen.threads)
        what = {"network": network, "mix": mix, "strategy": strategy}
        runs[run_key(**what)] = {"key": run_key(**what), **what, **found, "machine": machine()}
        write_json(chosen.output, {"runs": list(runs.values())})
    show("training_speed", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
