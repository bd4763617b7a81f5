"""Muon against AdamW, at equal steps, on a small encoder.

    python benchmarks/bundled_corpus.py corpus
    python benchmarks/optimizers.py corpus/english.jsonl

`modernbert-mini` learns hidden tokens from nothing, steps of 1,024 tokens, constant rate after a twentieth of warm-up,
an eighth of a pass: both optimisers see the same tokens in the same order, with the same first weights, for three
seeds. The rate of each is the better of two, chosen with seed 0, which is not in the table. Reported is the loss on
held-out text along the way, and what a step costs. A run that is on file is not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import add_parallel_arguments, common_arguments
from records import machine, read_runs, run_key, show

import graftlm
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "optimizers.json"
RATES = {"adamw": (1e-3, 2e-3), "muon": (1e-3, 2e-3)}
CHOOSING_SEED = 0
RECIPE: dict[str, Any] = {
    "base": "modernbert-mini", "objective.name": "masked_language_modelling", "tokenizer.kind": "wordpiece",
    "training.epochs": 0.125, "training.batch_tokens": 1_024, "training.schedule": "constant",
    "training.dropout": 0.0, "training.evaluations": 8, "evaluation.tokens": 50_000, "evaluation.proof": "none",
}  # fmt: skip


def curve(corpus: Path, optimizer: str, rate: float, seed: int) -> dict[str, Any]:
    """Pretrain once; return the held-out losses by step, and the seconds of a step in the middle of the run."""
    with tempfile.TemporaryDirectory() as place:
        options: dict[str, Any] = {
            **RECIPE,
            "seed": seed,
            "training.optimizer": optimizer,
            "training.learning_rate": rate,
        }
        run = graftlm.pretrain(corpus, run_directory=Path(place) / "run", quiet=True, **options)
        steps = [json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines()]
    judged = [each for each in steps if "validation" in each]
    return {
        "steps": [each["step"] for each in judged],
        "losses": [each["validation"]["loss"] for each in judged],
        "step_seconds": float(np.median([each["seconds"] for each in steps if "loss" in each])),
    }


def best_rate(runs: list[dict[str, Any]], optimizer: str) -> float | None:
    """Return the rate whose run with the choosing seed ended lowest; None before all of these are there."""
    found = {
        run["rate"]: run["losses"][-1]
        for run in runs
        if run["optimizer"] == optimizer and run["seed"] == CHOOSING_SEED
    }
    return min(found, key=found.__getitem__) if len(found) == len(RATES[optimizer]) else None


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    runs, columns = document["runs"], dict[str, list[dict[str, Any]]]()
    for optimizer in RATES:
        rate = best_rate(runs, optimizer)
        kept = [
            run
            for run in runs
            if (run["optimizer"], run["rate"]) == (optimizer, rate) and run["seed"] != CHOOSING_SEED
        ]
        if kept:
            columns[f"{optimizer} at {rate:g}"] = sorted(kept, key=lambda run: run["seed"])
    if not columns:
        return ""
    titles = [
        f"{name}, seeds {', '.join(str(run['seed']) for run in kept)}" for name, kept in columns.items()
    ]
    lines = [f"| step | {' | '.join(titles)} |", "|---:|" + "---|" * len(columns)]
    for at, step in enumerate(next(iter(columns.values()))[0]["steps"]):
        cells = (", ".join(f"{run['losses'][at]:.3f}" for run in kept) for kept in columns.values())
        lines.append(f"| {step:,} | {' | '.join(cells)} |")
    cost = (f"{np.median([run['step_seconds'] for run in kept]):.2f} s" for kept in columns.values())
    return "\n".join([*lines, f"| a step takes | {' | '.join(cost)} |"])


def main() -> None:
    parser = common_arguments(__doc__, RATES, [1, 2, 3], RESULTS)
    parser.add_argument("corpus", type=Path, nargs="?", default=Path("corpus/english.jsonl"))
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, {"runs": read_runs(arguments.output, *arguments.add)})
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        train_all(arguments)
    show("optimizers", tables({"runs": read_runs(arguments.output)}), into_page=arguments.output == RESULTS)


def train_all(arguments: argparse.Namespace) -> None:
    """Choose the rates, then train what is not on file yet, and write the file after each run."""
    for seed in (CHOOSING_SEED, *arguments.seeds):
        for optimizer in arguments.data:
            best = best_rate(read_runs(arguments.output), optimizer)
            for rate in RATES[optimizer] if seed == CHOOSING_SEED else (best,):
                assert rate is not None
                key = run_key(optimizer=optimizer, rate=rate, seed=seed, **RECIPE)
                if any(run["key"] == key for run in read_runs(arguments.output)):
                    continue
                found = curve(arguments.corpus, optimizer, rate, seed)
                run = {
                    "key": key, "optimizer": optimizer, "rate": rate, "seed": seed, **found, "machine": machine(),
                }  # fmt: skip
                write_json(arguments.output, {"runs": [*read_runs(arguments.output), run]})
                print(optimizer, rate, seed, found["losses"][-1], flush=True)


if __name__ == "__main__":
    main()
