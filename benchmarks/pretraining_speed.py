"""How many tokens a second are pretrained on, beside ``transformers.Trainer`` with the recipe of its run_mlm example?

    python benchmarks/pretraining_speed.py

Masked language modelling with an encoder (`bert-mini`, or `minilm-l6`: 6 layers, 384 wide, 30,522 tokens) and causal
language modelling with a decoder (`gpt2-mini`), on public texts: *sentences* (MASC, one a row), *paragraphs*
(WikiText-2, one a row) and *documents* (both, whole). What is longer than 128 tokens is cut into windows. Texts become
tokens once, by one tokenizer, before anything is timed, and all sides read the same rows, special tokens included,
about 4,096 tokens a step; float32, AdamW with decay 0.01, clipping, dropout 0.1.

- ours: what `graft pretrain` runs; *without kernels*: the same where no compiled kernels are installed;
- stock: a row is an example, `DataCollatorForLanguageModeling` pads each batch to its longest;
- stock, blocks: the rows one behind the other, cut into full blocks of 128 (`group_texts` of the example): no padding,
  but a block holds pieces of several texts, which see each other.

The must is for *stock* and masked language modelling, on every kind of text: a causal model projects every token onto
the vocabulary, which no side can spare. The sides take turns, some steps each; all that a step takes is timed,
drawing masks and padding rows included. Tokens are those that are no padding. A ratio is the median over the turns, its
interval the middle 95 % of that of resampled turns. Before anything is timed the Trainer takes some steps on our
batches, as masked by us, padded, without dropout: where a loss differs by more than 1e-6, the benchmark fails. That we
project onto the vocabulary only where a token is asked for, and the stock model everywhere, is part of what is
measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from arguments import add_parallel_arguments
from bundled_corpus import masc, wikitext
from data_sets import shared_data
from records import machine, read_runs, run_key, show
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, Trainer
from transformers.trainer_callback import PrinterCallback
from turns import ENDLESS, Turns, TurnsOfTrainer, Worker, take_turns, times_faster, trainer_arguments

from graftlm.data.features import IGNORED
from graftlm.kernels.library import VARIABLE
from graftlm.models.flat.probe import make_flat
from graftlm.pretraining import Pretraining
from graftlm.pretraining_recipe import load_pretraining
from graftlm.progress import Silent
from graftlm.rundir import RunDirectory, write_json
from graftlm.training.loop import Plan, fit

RESULTS = Path(__file__).parent / "results" / "pretraining_speed.json"
SIDES = ("ours", "ours_without_kernels", "stock", "stock_blocks")
BASES = {"bert-mini": "bert-mini", "minilm-l6": "bundled:minilm-l6", "gpt2-mini": "gpt2-mini"}
TEXTS = ("sentences", "paragraphs", "documents")
SETTINGS: dict[str, Any] = {
    "corpus.held_out_share": 0.0,
    "training.max_length_tokens": 128,
    "training.batch_tokens": 4096,
    "training.precision": "fp32",
    "training.device": "cpu",
}
STEPS_IN_TURN, EQUAL_STEPS, EQUAL = 4, 4, 1e-6
# Of the steps that are compared: AdamW's first ones are as large for a gradient of nothing but rounding as for any.
EQUAL_RATE = 1e-4
MUST, MASKED = 1.8, ("bert-mini", "minilm-l6")
"""So many times the tokens a second of *stock*, for networks that learn masked tokens."""
CORPUS = "texts.jsonl"


def texts(kind: str, folder: Path) -> Iterator[str]:
    """Yield the documents of a kind of text from the folder of the data sets."""
    if kind == "documents":
        yield from masc(folder)
        yield from wikitext(folder)
        return
    for document in masc(folder) if kind == "sentences" else wikitext(folder):
        yield from document.split("\n")


def write_corpus(documents: Iterator[str], folder: Path) -> None:
    """Write one document a row, for every side to read."""
    with (folder / CORPUS).open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in documents if text.strip())


def make_subject(base: str, folder: Path, dropout: float, **changes: Any) -> Pretraining:
    """Return what a pretraining is about, the same for every side; tokenizer and tokens are made once for a folder."""
    settings = {"base": base, "corpus.path": str(folder / CORPUS), "training.dropout": dropout}
    recipe = load_pretraining(None, {**SETTINGS, **settings, **changes})
    return Pretraining(recipe, RunDirectory(folder), Accelerator(cpu=True), None, Silent())


def plan(subject: Pretraining, steps: int) -> Plan:
    """Return our steps; the Trainer gets the same by `trainer_arguments`."""
    order: Any = subject.plan.order
    order = replace(order, total_steps=steps)
    return replace(subject.plan, total_steps=steps, order=order, warmup_share=0.0, schedule="linear")


def our_steps(subject: Pretraining, steps: int) -> Iterator[tuple[float, int, Callable[[], None]]]:
    """Yield loss and tokens of each step of ours, and what brings all weights up to date: rows may be late."""
    optimizer: Any = subject.optimizer()
    if reason := make_flat(subject.model):
        raise SystemExit(f"the network does not work flat: {reason}")
    accelerator, planned = Accelerator(cpu=True), plan(subject, steps)
    for step in fit(
        subject.model,
        subject.examples,
        subject.loss(),
        optimizer,
        planned,
        accelerator,
        forward=subject.forward,
    ):
        yield step.loss, step.tokens, optimizer.flush


def read_rows(subject: Pretraining) -> list[list[int]]:
    """Return the tokens of all examples of a pass, as they are before any is hidden."""
    source, device = subject.examples.in_pass(0), torch.device("cpu")
    found: list[list[int]] = []
    for rows in np.array_split(np.arange(len(source.lengths)), 1 + len(source.lengths) // 1_000):
        batch = source.batch(rows, device)
        ids, targets = batch.inputs["input_ids"], batch.targets
        if is_masked(subject):
            assert targets is not None
            ids = torch.where(targets == IGNORED, ids, targets)
        found += [
            row[:length] for row, length in zip(ids.tolist(), source.lengths[rows].tolist(), strict=True)
        ]
    return found


def is_masked(subject: Pretraining) -> bool:
    """Whether tokens are hidden and said, and not the next one said."""
    objective: Any = subject.objective
    return objective.name == "masked_language_modelling"


def blocks(rows: Sequence[list[int]], size: int) -> list[list[int]]:
    """Return rows one behind the other, cut into full blocks; what is left at the end is dropped."""
    joined = [token for row in rows for token in row]
    return [joined[start : start + size] for start in range(0, len(joined) - size + 1, size)]


class CountingCollator(DataCollatorForLanguageModeling):
    """That of transformers; batches are made ahead of their steps, so what they hold waits in a line.

    Args:
        subject: whose tokens are hidden, or follow each other.
    """

    def __init__(self, subject: Pretraining) -> None:
        objective: Any = subject.objective
        masked = is_masked(subject)
        share = {"mlm_probability": objective.mask_share} if masked else {}
        super().__init__(subject.beginning.tokenizer, mlm=masked, **share)
        self.made = deque[tuple[int, int]]()

    def torch_call(self, examples: Any) -> dict[str, Any]:
        """Make a batch, and note how many of its places are tokens and how many there are."""
        batch = super().torch_call(examples)
        mask: Tensor = batch["attention_mask"]
        self.made.append((int(mask.sum()), mask.numel()))
        return batch


def stock_trainer(
    side: str, subject: Pretraining, steps: int, folder: str, collator: CountingCollator
) -> Trainer:
    """Return the Trainer of a side, with about as many tokens a step as we have."""
    training, tokenizer = subject.recipe.training, subject.beginning.tokenizer
    rows = read_rows(subject)
    if side == "stock_blocks":
        rows = blocks(rows, training.max_length_tokens)
    examples: list[dict[str, list[int]]] = [
        {"input_ids": row, "attention_mask": [1] * len(row)} for row in rows
    ]
    if is_masked(subject):  # else asked of the tokenizer again for each row of each batch
        special = set(tokenizer.all_special_ids)
        for example in examples:
            example["special_tokens_mask"] = [int(token in special) for token in example["input_ids"]]
    batch = max(1, round(training.batch_tokens / float(np.mean([len(row) for row in rows]))))
    arguments = trainer_arguments(
        folder, steps, batch, subject.learning_rate, subject.weight_decay, remove_unused_columns=False
    )
    trainer = Trainer(subject.model, arguments, collator, examples)  # pyright: ignore[reportArgumentType]
    trainer.remove_callback(PrinterCallback)
    return trainer


def our_batches(subject: Pretraining, steps: int) -> list[dict[str, Tensor]]:
    """Return the batches of our first steps as a model of transformers takes them, padded, with labels."""
    order = plan(subject, steps).order.steps(subject.examples, 0)
    found: list[dict[str, Tensor]] = []
    for _, due in zip(range(steps), order, strict=False):
        batch = due.source.batch(due.rows, torch.device("cpu"))
        assert batch.targets is not None
        # Ours stand where the next token is said, those of transformers at that token, unless they are called shifted.
        shifted = {} if is_masked(subject) else {"shift_labels": batch.targets}
        found.append({**batch.inputs, "labels": batch.targets, **shifted})
    return found


class OurBatches(Trainer):
    """The Trainer on batches that are already made."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches as they are."""
        batches: Any = self.train_dataset
        return DataLoader(batches, batch_size=None)


def check_equal(base: str, folder: Path, **changes: Any) -> float:
    """Return the largest relative difference of the losses of both sides on our batches without dropout."""
    changes = {"training.learning_rate": EQUAL_RATE, **changes}
    ours, stock = (make_subject(base, folder, 0.0, **changes) for _ in range(2))
    our_losses = [loss for loss, _, _ in our_steps(ours, EQUAL_STEPS)]
    decay = stock.weight_decay
    with tempfile.TemporaryDirectory() as output:
        arguments = trainer_arguments(output, EQUAL_STEPS, 1, stock.learning_rate, decay, logging_steps=1)
        batches: Any = our_batches(stock, EQUAL_STEPS)
        trainer = OurBatches(stock.model, arguments, train_dataset=batches)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    difference = max(abs(one - other) / other for one, other in zip(our_losses, losses, strict=True))
    if not difference <= EQUAL:
        raise SystemExit(f"the losses differ, so there is nothing to compare: {our_losses} and {losses}")
    return difference


def work(side: str, subject: Pretraining, turns: Turns) -> None:
    """Be a side: train for ever, a turn at a time."""
    if side.startswith("ours"):
        steps = our_steps(subject, ENDLESS)
        next(steps)  # the network works flat
        turns.wait()
        for _, tokens, flush in steps:
            if turns.last:
                flush()  # no step is left for later
            turns.step_ended(tokens, tokens)
    collator = CountingCollator(subject)
    with tempfile.TemporaryDirectory() as output:
        trainer = stock_trainer(side, subject, ENDLESS, output, collator)
        trainer.add_callback(TurnsOfTrainer(turns, collator.made.popleft))
        trainer.train()


def measure(network: str, kind: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return seconds and tokens of every step of every side, turn by turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(texts(kind, shared_data(chosen.shared_data)), folder)
        difference = check_equal(BASES[network], folder)
        subject = make_subject(BASES[network], folder, 0.1)
        words = ("--networks", network, "--threads", str(torch.get_num_threads()), "--folder", name)
        workers = {
            side: Worker(
                __file__,
                ("--worker", side, *words),
                {VARIABLE: "off"} if side == "ours_without_kernels" else {},
            )
            for side in chosen.sides
        }
        told = take_turns(workers, chosen.turns, STEPS_IN_TURN)
    lengths = subject.examples.in_pass(0).lengths
    return {
        "loss_difference": difference,
        "rows": len(lengths),
        "lengths": [round(float(each), 1) for each in np.quantile(lengths, [0.1, 0.5, 0.9])],
        "seconds": {
            side: [[round(each, 5) for each in turn["seconds"]] for turn in found]
            for side, found in told.items()
        },
        "tokens": {side: [turn["tokens"] for turn in found] for side, found in told.items()},
        "places": {side: [turn["places"] for turn in found] for side, found in told.items()},
        "peak_mib": {side: round(found[-1]["peak_mib"]) for side, found in told.items()},
    }


def cost(run: dict[str, Any], side: str) -> list[float]:
    """Return the seconds of a token, turn by turn."""
    pairs = zip(run["seconds"][side], run["tokens"][side], strict=True)
    return [float(np.sum(seconds) / np.sum(tokens)) for seconds, tokens in pairs]


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    lines = [
        "| network | texts | tokens of a row: 10 %, median, 90 % | side | tokens / s, median | padding | peak MiB "
        "| ours is faster | without kernels | must |",
        "|---|---|---|---|---:|---:|---:|---|---|---|",
    ]
    for run in document["runs"]:
        for side in run["seconds"]:
            real, places = (float(np.sum(run[name][side])) for name in ("tokens", "places"))
            cells = [
                run["network"],
                run["texts"],
                ", ".join(f"{each:.0f}" for each in run["lengths"]),
                side.replace("_", ", ", 1).replace("_", " "),
                f"{1 / float(np.median(cost(run, side))):,.0f}",
                f"{1 - real / places:.0%}",
                f"{run['peak_mib'][side]:,}",
            ]
            for ours in ("ours", "ours_without_kernels"):
                if side.startswith("stock") and ours in run["seconds"]:
                    value, low, high = times_faster(cost(run, side), cost(run, ours))
                    cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}]")
                else:
                    cells.append("")
            cells.append(f"{MUST}" if side == "stock" and run["network"] in MASKED else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", choices=list(BASES), nargs="*", default=["bert-mini", "gpt2-mini"])
    parser.add_argument("--texts", choices=TEXTS, nargs="*", default=list(TEXTS))
    parser.add_argument("--sides", choices=SIDES, nargs="*", default=list(SIDES))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--shared-data", help="folder of the data sets; default: GRAFTLM_SHARED_DATA or ../shared/data"
    )
    parser.add_argument("--table", action="store_true", help="show what is on file, measure nothing")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_parallel_arguments(parser)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    transformers.utils.logging.set_verbosity_error()
    if chosen.worker:
        work(chosen.worker, make_subject(BASES[chosen.networks[0]], chosen.folder, 0.1), Turns())
    runs = {run["key"]: run for run in read_runs(chosen.output, *chosen.add)}
    for network in [] if chosen.table else chosen.networks:
        for kind in chosen.texts:
            found = measure(network, kind, chosen)
            key = run_key(network=network, texts=kind)
            runs[key] = {"key": key, "network": network, "texts": kind, **found, "machine": machine()}
            write_json(chosen.output, {"runs": list(runs.values())})
    if chosen.add:
        write_json(chosen.output, {"runs": list(runs.values())})
    show("pretraining_speed", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
