"""What more rows and longer texts cost.

    python benchmarks/scaling.py

*Rows*: a CSV file of short random texts with a label is read, checked, split and tokenised, and the first step is
taken, by `graftlm.workflows.finetune` in a process of its own that ends there; the numbers of rows take turns. Memory
is the most that the process held, less what it holds for 1,000 rows: the base model, torch and Python.

*Tokens*: steps on texts that all have one length, about 4,096 tokens a step, forward, backward and update; the
lengths take turns. What a token costs should stay alike but for attention, whose products grow with the length: by a
factor of 1 + length / (6 * width) over those of the other layers.

*Batches*: the same on texts of 64 tokens, more and more of them a step. A step has costs that do not depend on how many
(its update moves all weights), which small batches pay for each few tokens.

*Tokenising*: processor time that a row takes to be tokenised, and to be trained on once, by one thread: what a
cache of token ids could save of an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from memory import peak_mib
from records import machine, read_runs, run_key, show
from timed_rows import BATCH, SEED, Mix, make_examples, make_model
from transformers import PreTrainedModel

from graftlm.data.dataset import Split
from graftlm.models.flat.probe import make_flat
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.preparation import encoded, open_encoder
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.rundir import write_json
from graftlm.training.batching import Examples
from graftlm.training.loop import Plan, fit
from graftlm.training.optimisation import Stepping
from graftlm.training.order import Epochs
from graftlm.workflows.finetune import finetune

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SMALL = 1_000
ROWS, ROW_TURNS = (125_000, 250_000, 500_000, 1_000_000), 3
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
BATCHES, LENGTH_IN_BATCHES = (1, 2, 4, 8, 16, 32, 64), 64
TOKENS_IN_STEP, TURNS, STEPS_IN_TURN = 4_096, 7, 3
# Words of a text, rows to be tokenised, steps of 16 rows to be trained.
TEXTS = {"short": (6, 17, 20_000, 20), "paragraphs": (100, 181, 2_000, 4)}
WORDS = np.array(
    ["the", "film", "was", "very", "good", "bad", "dull", "bright", "long", "old", "new", "scene"]
)
MUST = "1,000,000 rows: 120 s and 2,048 MiB"


class FirstStep(Silent):
    """Ends the process after the first step and tells what it took."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def advance(self, done: int, total: int, **_: Any) -> None:
        """Tell seconds and memory."""
        if done == 1:
            took = {"seconds": time.perf_counter() - self.began, "peak_mib": peak_mib()}
            print(json.dumps(took), flush=True)
            os._exit(0)


def write_rows(file: Path, rows: int) -> None:
    """Write texts of 6 to 16 words, each with a number that no other has."""
    random = np.random.default_rng(SEED)
    with file.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for row in range(rows):
            text = " ".join(random.choice(WORDS, size=random.integers(6, 17)))
            stream.write(f"{text} {row},{'yes' if random.random() < 0.5 else 'no'}\n")


def first_step_of(rows: int) -> dict[str, Any]:
    """Return seconds and memory until the first step on this many rows."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.csv", rows)
        done = subprocess.run(
            [sys.executable, __file__, "--worker", folder], stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def work(folder: Path) -> None:
    """Be the process that starts a training."""
    progress = FirstStep()
    finetune(load_recipe(None, {"data.path": str(folder / "rows.csv")}), None, folder / "run", progress)


def measure_rows() -> dict[str, list[dict[str, Any]]]:
    """Return what each number of rows takes, turn by turn."""
    found: dict[str, list[dict[str, Any]]] = {str(rows): [] for rows in (SMALL, *ROWS)}
    for _ in range(ROW_TURNS):
        for rows, turns in found.items():
            turns.append(first_step_of(int(rows)))
    return found


def measure_tokens() -> dict[str, list[float]]:
    """Return microseconds of each token, turn by turn, for texts of each length."""
    return measure_costs({length: (length, TOKENS_IN_STEP // length) for length in LENGTHS})


def measure_batches() -> dict[str, list[float]]:
    """Return microseconds of each token, turn by turn, for batches of each size."""
    return measure_costs({batch: (LENGTH_IN_BATCHES, batch) for batch in BATCHES})


def measure_costs(cases: dict[int, tuple[int, int]]) -> dict[str, list[float]]:
    """Return microseconds of each token, turn by turn, of each case: length of its texts, and their number a step."""
    trainings: dict[int, Any] = {}
    for case, (length, batch) in cases.items():
        mix = Mix(length, 0.0, length, length, length, 2 * batch, STEPS_IN_TURN)
        model, optimizer = make_model("minilm-l6", mix, 0.1)
        examples = make_examples(mix, model.config.vocab_size)
        if reason := make_flat(model):
            raise SystemExit(f"the network does not work flat: {reason}")
        trainings[case] = steps_of(model, examples, optimizer, batch)
    found: dict[str, list[float]] = {str(case): [] for case in cases}
    for turn in range(TURNS + 1):
        for case, steps in trainings.items():
            taken = [next(steps) for _ in range(STEPS_IN_TURN)]
            cost = sum(step.seconds for step in taken) / sum(step.tokens for step in taken)
            if turn:  # the first is for caches to fill
                found[str(case)].append(round(1e6 * cost, 3))
    for steps in trainings.values():
        steps.close()
    return found


def steps_of(model: PreTrainedModel, examples: Examples, optimizer: Stepping, batch: int) -> Any:
    """Return steps on these rows, without end, as a generator."""
    plan = Plan(
        total_steps=10_000, order=Epochs(batch, "shuffled", SEED), micro_batch=None, seed=SEED,
        warmup_share=0.0, schedule="linear", max_gradient_norm=1.0,
    )  # fmt: skip
    assert examples.targets is not None
    loss = CrossEntropy().bind(examples.targets, ["0", "1"])
    return fit(model, examples, loss, optimizer, plan, Accelerator(cpu=True))


def measure_tokenising() -> dict[str, dict[str, float]]:
    """Return microseconds of processor time that a row of each kind takes, and its tokens."""
    recipe = load_recipe()
    _, _, encoder = open_encoder(recipe)
    task: Any = recipe.task
    random = np.random.default_rng(SEED)
    found: dict[str, dict[str, float]] = {}
    for kind, (fewest, end, rows, steps) in TEXTS.items():
        texts = [" ".join(random.choice(WORDS, size=random.integers(fewest, end))) for _ in range(rows)]
        labels = random.choice(["no", "yes"], size=rows).tolist()
        split = Split("train", {"text": [*texts], "label": labels}, [str(row) for row in range(rows)])
        began = time.process_time()
        features = encoded(task, split, encoder, lambda rows: None)
        tokenising = 1e6 * (time.process_time() - began) / rows
        examples = Examples.of(
            features, task.targets(split, features, task.learn(split)), encoder.padding, "right"
        )
        model, optimizer = make_model("minilm-l6", Mix(0, 0.0, 0, 0, 0, rows, steps), 0.1)
        if reason := make_flat(model):
            raise SystemExit(f"the network does not work flat: {reason}")
        training = steps_of(model, examples, optimizer, BATCH)
        next(training)
        began = time.process_time()
        for _ in range(steps):
            next(training)
        cost = 1e6 * (time.process_time() - began) / (steps * BATCH)
        training.close()
        mean = features.num_tokens / rows
        found[kind] = {"tokens": mean, "tokenising": tokenising, "training": cost}
    return found


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    by_part = {run["part"]: run["found"] for run in document["runs"]}
    lines = [
        "| rows | seconds to the first step, median | over half the rows | beyond the model, MiB | must |",
        "|---:|---:|---:|---:|---|",
    ]
    rows = by_part.get("rows", {})
    seconds = {int(count): np.array([turn["seconds"] for turn in turns]) for count, turns in rows.items()}
    memory = {int(count): max(turn["peak_mib"] for turn in turns) for count, turns in rows.items()}
    for count in ROWS if rows else ():
        half = seconds.get(count // 2)
        times = "" if half is None else f"{np.median(seconds[count] / half):.2f}"
        must = MUST if count == ROWS[-1] else ""
        lines.append(
            f"| {count:,} | {np.median(seconds[count]):.0f} | {times} | {memory[count] - memory[SMALL]:.0f} | {must} |"
        )
    lines += [
        "",
        "| tokens of each text | microseconds a token, median | over the cheapest | by attention alone |",
        "|---:|---:|---:|---:|",
    ]
    tokens = by_part.get("tokens", {})
    medians = {length: float(np.median(costs)) for length, costs in tokens.items()}
    for length, cost in medians.items():
        over, attention = cost / min(medians.values()), 1 + int(length) / (6 * 384)
        lines.append(f"| {length} | {cost:.1f} | {over:.2f} | {attention:.2f} |")
    lines += [
        "",
        "| texts of 64 tokens a step | microseconds a token, median | ms a step |",
        "|---:|---:|---:|",
    ]
    for batch, costs in by_part.get("batches", {}).items():
        cost = float(np.median(costs))
        lines.append(f"| {batch} | {cost:.1f} | {cost * int(batch) * LENGTH_IN_BATCHES / 1e3:.0f} |")
    lines += [
        "",
        "| texts | tokens, mean | tokenising a row, microseconds | training on it once | share of an epoch, % |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, cost in by_part.get("tokenising", {}).items():
        share = 100 * cost["tokenising"] / (cost["tokenising"] + cost["training"])
        lines.append(
            f"| {kind} | {cost['tokens']:.0f} | {cost['tokenising']:.0f} | {cost['training']:,.0f} | {share:.2f} |"
        )
    return "\n".join(lines)


PARTS = {
    "rows": measure_rows,
    "tokens": measure_tokens,
    "batches": measure_batches,
    "tokenising": measure_tokenising,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", choices=tuple(PARTS), nargs="*", default=list(PARTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="show what is on file, measure nothing")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.worker:
        work(chosen.worker)
    runs = {run["key"]: run for run in read_runs(chosen.output)}
    for part in [] if chosen.table else chosen.parts:
        found = PARTS[part]()
        key = run_key(part=part)
        runs[key] = {"key": key, "part": part, "found": found, "machine": machine()}
        write_json(chosen.output, {"runs": list(runs.values())})
    show("scaling", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
