"""Ways to pretrain a small encoder, at equal steps: Muon and AdamW, and AdamW from embeddings of co-occurrence.

    python benchmarks/bundled_corpus.py corpus
    python benchmarks/optimizers.py corpus/english.jsonl

`modernbert-mini` learns hidden tokens from nothing, steps of 1,024 tokens, constant rate after a twentieth of warm-up,
an eighth of a pass: all see the same tokens in the same order, for three seeds, and but for the embeddings of the last
they have the same first weights. The rate of each is the better of two, chosen with seed 0, which is not in the table.
Reported is the loss on held-out text along the way, and what a step costs. A run that is on file is not repeated.
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
WAYS: dict[str, dict[str, Any]] = {
    "adamw": {"training.optimizer": "adamw"},
    "muon": {"training.optimizer": "muon"},
    "adamw_cooccurrence": {"training.optimizer": "adamw", "training.first_embeddings": "cooccurrence"},
}
RATES = (1e-3, 2e-3)
CHOOSING_SEED = 0
RECIPE: dict[str, Any] = {
    "base": "modernbert-mini", "objective.name": "masked_language_modelling", "tokenizer.kind": "wordpiece",
    "training.epochs": 0.125, "training.batch_tokens": 1_024, "training.schedule": "constant",
    "training.dropout": 0.0, "training.evaluations": 8, "evaluation.tokens": 50_000, "evaluation.proof": "none",
}  # fmt: skip


def curve(corpus: Path, way: str, rate: float, seed: int) -> dict[str, Any]:
    """Pretrain once; return the held-out losses by step, and the seconds of a step in the middle of the run."""
    with tempfile.TemporaryDirectory() as place:
        options: dict[str, Any] = {**RECIPE, **WAYS[way], "seed": seed, "training.learning_rate": rate}
        run = graftlm.pretrain(corpus, run_directory=Path(place) / "run", quiet=True, **options)
        steps = [json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines()]
    judged = [each for each in steps if "validation" in each]
    return {
        "steps": [each["step"] for each in judged],
        "losses": [each["validation"]["loss"] for each in judged],
        "step_seconds": float(np.median([each["seconds"] for each in steps if "loss" in each])),
    }


def best_rate(runs: list[dict[str, Any]], way: str) -> float | None:
    """Return the rate whose run with the choosing seed ended lowest; None before all of these are there."""
    found = {
        run["rate"]: run["losses"][-1] for run in runs if run["way"] == way and run["seed"] == CHOOSING_SEED
    }
    return min(found, key=found.__getitem__) if len(found) == len(RATES) else None


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    runs, columns = document["runs"], dict[str, list[dict[str, Any]]]()
    for way in WAYS:
        rate = best_rate(runs, way)
        kept = [
            run for run in runs if (run["way"], run["rate"]) == (way, rate) and run["seed"] != CHOOSING_SEED
        ]
        if kept:
            columns[f"{way} at {rate:g}"] = sorted(kept, key=lambda run: run["seed"])
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
    parser = common_arguments(__doc__, WAYS, [1, 2, 3], RESULTS)
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
        for way in arguments.data:
            best = best_rate(read_runs(arguments.output), way)
            for rate in RATES if seed == CHOOSING_SEED else (best,):
                assert rate is not None
                key = run_key(way=way, rate=rate, seed=seed, **RECIPE, **WAYS[way])
                if any(run["key"] == key for run in read_runs(arguments.output)):
                    continue
                found = curve(arguments.corpus, way, rate, seed)
                run = {"key": key, "way": way, "rate": rate, "seed": seed, **found, "machine": machine()}
                write_json(arguments.output, {"runs": [*read_runs(arguments.output), run]})
                print(way, rate, seed, found["losses"][-1], flush=True)


if __name__ == "__main__":
    main()
