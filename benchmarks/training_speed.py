"""How many times faster is a step of ours than one of ``transformers.Trainer``, at the same numbers?

    python benchmarks/training_speed.py

Three mixes of lengths: short texts, 14 tokens on average, and paragraphs of 150, both classified, and windows of 175
tokens in which an answer is marked. Sides, with batches of 16, float32, AdamW with decay 0.01, clipping, dropout 0.1:

- ours: `graftlm.training.loop.fit`; *without kernels*: the same where no compiled kernels are installed;
- trainer: `graftlm.Trainer`, given what the stock one is given;
- stock: the Trainer as it comes; *grouped*: with batches of similar length; *fixed*: every row padded to the limit.

The sides take turns, some steps each. What is timed is from the end of one step to the end of the next, so that reading
and padding rows counts, and the steps that rows of the embedding owe are taken within the last step of a turn. A ratio
is the median over the turns of the ratio of their seconds, its interval the middle 95 % of that of resampled turns.
Before anything is timed both train some steps on the same batches without dropout: where their losses differ by more
than 1e-5, the benchmark fails. Rows are random tokens, frequent ones frequent as in any language (Zipf); nothing has
to be downloaded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from numpy.typing import NDArray
from records import machine, read_runs, run_key, show
from stock_trainer import without_padding
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
)
from transformers.trainer_callback import PrinterCallback
from turns import ENDLESS, Turns, TurnsOfTrainer, Worker, take_turns, times_faster, trainer_arguments

import graftlm
from graftlm.kernels.library import VARIABLE
from graftlm.models.base_model import load_model
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import locate
from graftlm.objectives.answer_span import AnswerSpan
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.rundir import write_json
from graftlm.strategies.full import Full
from graftlm.training.batching import Examples, epoch_batches
from graftlm.training.loop import Plan, fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.order import Epochs

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
SIDES = ("ours", "ours_without_kernels", "trainer", "stock", "stock_grouped", "stock_fixed")
NETWORKS = ("minilm-l6", "bert-base")
BATCH, DECAY, RATE, SEED = 16, 0.01, 2e-5, 1
EQUAL_STEPS, EQUAL = 6, 1e-5


@dataclass(frozen=True)
class Mix:
    """Lengths of texts: log-normal around ``middle`` tokens, within ``shortest`` and ``longest``.

    Args:
        answers: whether an answer is marked instead of a class given.
        limit: tokens of every row of the side *fixed*.
        rows: that are trained on, again and again.
        turn: steps of each side before the next has its turn: as many as the Trainer's grouped batches take from their
            longest to their shortest, a quarter of the rows.
    """

    middle: float
    spread: float
    shortest: int
    longest: int
    limit: int
    rows: int
    turn: int
    answers: bool = False


MIXES = {
    "short": Mix(12, 0.6, 4, 66, 128, 1_280, 20),
    "paragraphs": Mix(140, 0.55, 20, 256, 256, 640, 10),
    "answers": Mix(165, 0.40, 60, 384, 384, 640, 10, answers=True),
}
# What the design asks for, and hopes for.
BOUNDS = {
    ("ours", "stock"): {"short": (2.3, 2.9), "paragraphs": (3.2, 4.0), "answers": (4.5, 5.6)},
    ("ours", "stock_grouped"): {"short": (1.3, 1.5), "paragraphs": (1.7, 2.1), "answers": (1.6, 1.9)},
    ("ours_without_kernels", "stock"): {"short": (1.4, 1.65), "paragraphs": (2.0, 2.45), "answers": (3.3, 4.2)},
    ("trainer", "stock"): {"short": (2.1, 2.6), "paragraphs": (2.6, 3.2), "answers": (4.2, 5.5)},
}  # fmt: skip


def make_examples(mix: Mix, vocabulary: int) -> Examples:
    """Return random rows of a mix."""
    random = np.random.default_rng(SEED)
    lengths = np.exp(random.normal(np.log(mix.middle), mix.spread, mix.rows)).round()
    lengths = lengths.clip(mix.shortest, mix.longest).astype(np.int64)
    first = 1_000 if vocabulary > 2_000 else 5  # what stands before are special tokens and single characters
    ranks = np.arange(vocabulary - first)
    share = 1 / (ranks + 2.7)
    words = first + random.permutation(vocabulary - first)
    ids = [words[random.choice(ranks, size=length, p=share / share.sum())].tolist() for length in lengths]
    if mix.answers:
        start = (random.random(mix.rows) * (lengths - 1)).astype(np.int64)
        targets = np.stack([start, np.minimum(start + 2, lengths - 1)], axis=1)
    else:
        targets = random.integers(0, 2, size=mix.rows)
    segments = [[0] * len(each) for each in ids]
    return Examples(
        {"input_ids": ids, "token_type_ids": segments}, targets, {"input_ids": 0, "token_type_ids": 0}
    )


def make_model(network: str, mix: Mix, dropout: float) -> PreTrainedModel:
    """Return the network with a new head, the same for every side."""
    head = "QuestionAnswering" if mix.answers else "SequenceClassification"
    options: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if network == "minilm-l6":
        base = locate("bundled:minilm-l6")
        return load_model(base, [f"AutoModelFor{head}"], options, SEED).model
    torch.manual_seed(SEED)
    return getattr(transformers, f"BertFor{head}")(transformers.BertConfig(**options))


def plan(examples: Examples, steps: int) -> Plan:
    """Return our steps; the Trainer gets the same by `trainer_arguments`."""
    return Plan(
        total_steps=steps, order=Epochs(BATCH, "shuffled", SEED), micro_batch=None, seed=SEED, warmup_share=0.0,
        schedule="linear", max_gradient_norm=1.0,
    )  # fmt: skip


def our_steps(
    network: str, mix: Mix, dropout: float, steps: int
) -> Iterator[tuple[float, Callable[[], None]]]:
    """Yield the loss of each step of ours, and what brings all weights up to date: rows may be late."""
    model = make_model(network, mix, dropout)
    examples = make_examples(mix, model.config.vocab_size)
    optimizer = build_optimizer(model, Full().parameter_groups(model), RATE, DECAY)
    if reason := make_flat(model):
        raise SystemExit(f"the network does not work flat: {reason}")
    assert examples.targets is not None
    objective = AnswerSpan() if mix.answers else CrossEntropy()
    loss: Any = objective.bind(examples.targets, ["0", "1"])
    for step in fit(model, examples, loss, optimizer, plan(examples, steps), Accelerator(cpu=True)):
        yield step.loss, optimizer.flush


def stock_rows(examples: Examples, mix: Mix) -> list[dict[str, Any]]:
    """Return the rows as the Trainer wants them."""
    targets: Any = examples.targets
    names = ("start_positions", "end_positions") if mix.answers else ("labels",)
    return [
        {
            "input_ids": examples.inputs["input_ids"][row],
            "token_type_ids": examples.inputs["token_type_ids"][row],
            **dict(zip(names, np.atleast_1d(targets[row]).tolist(), strict=True)),
        }
        for row in range(len(examples))
    ]


def stock_trainer(
    side: str, network: str, mix: Mix, dropout: float, steps: int, folder: str, **more: Any
) -> Trainer:
    """Return the Trainer of a side."""
    model = make_model(network, mix, dropout)
    tokenizer: Any = AutoTokenizer.from_pretrained(locate("bundled:minilm-l6").folder)
    padding: dict[str, Any] = (
        {"padding": "max_length", "max_length": mix.limit} if side == "stock_fixed" else {}
    )
    if side == "stock_grouped":
        more["train_sampling_strategy"] = "group_by_length"
    kind = graftlm.Trainer if side == "trainer" else Trainer
    trainer = kind(
        model=model,
        args=trainer_arguments(folder, steps, BATCH, RATE, DECAY, **more),
        train_dataset=stock_rows(make_examples(mix, model.config.vocab_size), mix),  # pyright: ignore[reportArgumentType]
        data_collator=DataCollatorWithPadding(tokenizer, **padding),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class SameBatches(Trainer):
    """The Trainer in our order of rows."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of our batches."""
        rows: Any = self.train_dataset
        lengths: NDArray[np.int64] = np.array([len(row["input_ids"]) for row in rows])
        batches = [each.tolist() for each in epoch_batches(lengths, BATCH, "shuffled", SEED, 0)]
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)  # pyright: ignore


def stock_losses(network: str, mix: Mix) -> list[float]:
    """Return the losses of the Trainer on our batches, without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = stock_trainer("stock", network, mix, 0.0, EQUAL_STEPS, folder, logging_steps=1)
        trainer.__class__ = SameBatches
        if mix.answers:
            without_padding(trainer.model)
        trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def check_equal(network: str, mix: Mix) -> float:
    """Return the largest relative difference of the losses of both sides on the same batches without dropout."""
    ours = [loss for loss, _ in our_steps(network, mix, 0.0, EQUAL_STEPS)]
    stock = stock_losses(network, mix)
    difference = max(abs(one - other) / other for one, other in zip(ours, stock, strict=True))
    if not difference <= EQUAL:
        raise SystemExit(f"the losses differ, so there is nothing to compare: {ours} and {stock}")
    return difference


def work(side: str, network: str, mix: Mix) -> None:
    """Be a side: train for ever, a turn at a time."""
    if side.startswith("ours"):
        turns = Turns()
        steps = our_steps(network, mix, 0.1, ENDLESS)
        next(steps)  # the model is made
        turns.wait()
        for _, flush in steps:
            if turns.last:
                flush()  # no step is left for later
            turns.step_ended()
    with tempfile.TemporaryDirectory() as folder:
        trainer = stock_trainer(side, network, mix, 0.1, ENDLESS, folder)
        trainer.add_callback(TurnsOfTrainer(Turns()))
        trainer.train()


def measure(network: str, name: str, sides: list[str], turns: int, threads: int) -> dict[str, Any]:
    """Return the seconds of every step of every side, turn by turn."""
    mix = MIXES[name]
    difference = check_equal(network, mix)
    words = ("--networks", network, "--mixes", name, "--threads", str(threads))
    workers = {
        side: Worker(
            __file__, ("--worker", side, *words), {VARIABLE: "off"} if side == "ours_without_kernels" else {}
        )
        for side in sides
    }
    told = take_turns(workers, turns, mix.turn)
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
        "| network | rows | side | ms a step, median | peak MiB | ours is faster | without kernels | graftlm.Trainer "
        "| must, goal |",
        "|---|---|---|---:|---:|---|---|---|---|",
    ]
    for run in document["runs"]:
        for side in run["seconds"]:
            milliseconds = 1000 * float(np.median([np.mean(turn) for turn in run["seconds"][side]]))
            cells = [
                run["network"],
                run["mix"],
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
                if run["network"] == "minilm-l6" and (ours, side) in BOUNDS
                for must, goal in [BOUNDS[ours, side][run["mix"]]]
            ]
            lines.append(f"| {' | '.join([*cells, '; '.join(bounds)])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", choices=NETWORKS, nargs="*", default=["minilm-l6"])
    parser.add_argument("--mixes", choices=list(MIXES), nargs="*", default=list(MIXES))
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
        work(chosen.worker, chosen.networks[0], MIXES[chosen.mixes[0]])
    runs = {run["key"]: run for run in read_runs(chosen.output)}
    for network in [] if chosen.table else chosen.networks:
        for mix in chosen.mixes:
            found = measure(network, mix, chosen.sides, chosen.turns, chosen.threads)
            key = run_key(network=network, mix=mix)
            runs[key] = {"key": key, "network": network, "mix": mix, **found, "machine": machine()}
            write_json(chosen.output, {"runs": list(runs.values())})
    show("training_speed", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
