"""How many rows a second does `Predictor` answer?

    python benchmarks/prediction_speed.py --threads 1

For each task a model is trained for a few steps (its quality does not matter here), then it answers the held-out rows
of a public set, in the order of the file, in three ways:

- ours: `Predictor` with all rows at once;
- plain: a loop over transformers, in the order of the file, 32 rows a batch, padded to the longest of each batch, with
  the simplest reading of its outputs (see `plain_predictions.py`);
- one by one: `Predictor` with one row at a time.

The three take turns, so that a machine that others use slows all of them. Rates are rows for each second of the
processor; a ratio is the median over the rounds of the ratio within a round, with its range. In the same run each
prediction of ours is compared with that of the row alone: all names, places and orders are equal and numbers differ by
rounding only, or the benchmark fails. How many rows the plain loop decides as we do is told beside it.

A further task needs a `Case`, and a function for its kind of answer in `plain_predictions.py`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from arguments import add_parallel_arguments, common_arguments
from data_sets import Rows, TextSet, load, shared_data
from generation import READERS, make_base, texts_of
from plain_predictions import PLAIN, Loaded, load_plain
from records import machine, read_runs, run_key, show, stopwatch

import graftlm
from graftlm.predictor import Predictor
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "prediction_speed.json"
BATCH = 32
WAYS = ("ours", "plain", "one_by_one")
# What one prediction may differ from that of the row alone: float32 through six layers, then a softmax.
RELATIVE, ABSOLUTE = 1e-3, 1e-4


@dataclass(frozen=True)
class Case:
    """One task on one set.

    Args:
        rows: the first held-out rows of the set, as many.
        longest: tokens that are read at once; None leaves the default of the task.
        written: tokens of a text that is written, by a base as `generation.py` makes it; None where none is.
        train_rows: rows of the training before, one pass.
        rounds: turns of the three ways.
    """

    rows: int
    longest: int | None = None
    written: int | None = None
    train_rows: int = 160
    rounds: int = 3


CASES: dict[str, Case] = {
    "sst2": Case(rows=500),
    "mrpc": Case(rows=400),
    "goemotions": Case(rows=600),
    "stsb": Case(rows=500),
    "conll2003": Case(rows=600, train_rows=2_000),  # enough for some entities
    "ewt": Case(rows=500),
    "squadshifts": Case(rows=100, train_rows=64),
    "multi30k": Case(rows=100, written=32, train_rows=2_000),
    "xdailydialog": Case(rows=60, longest=256, written=32, train_rows=400),
}


def train(data: TextSet, case: Case, folder: Path) -> Path:
    """Return the run of a model that answers what the set asks."""
    options: dict[str, Any] = {
        "training.epochs": 1,
        "task.max_length_tokens": case.longest,
        "data.validation_share": 0.0,
        "data.test_share": 0.0,
        "training.device": "cpu",
    }
    rows = data.train[: case.train_rows]
    if case.written is not None:
        base = make_base(folder / "base", texts_of(rows), "messages" in rows[0], seed=1)
        options |= {"base": str(base), "task.max_target_tokens": case.written, "training.learning_rate": 1e-3}
    return graftlm.finetune(rows, run_directory=folder / "run", quiet=True, **options).path


def measure(data: TextSet, case: Case) -> dict[str, Any]:
    """Train, predict in the three ways by turns, compare, and return the seconds of every round."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, case, Path(folder))
        predictor, plain = Predictor.open(run, device="cpu"), load_plain(run / "model")
        names = [role.name for role in predictor.roles]
        held_out = (data.test or data.train)[: case.rows]
        rows: Rows = [{name: _asked(row[name]) for name in names} for row in held_out]
        found, seconds = _by_turns(_ways(predictor, plain), rows, case.rounds)
    task = predictor.task
    ours, alone = ([task.record(each) for each in found[way]] for way in ("ours", "one_by_one"))
    other = [row for row, pair in enumerate(zip(ours, alone, strict=True)) if not same(*pair)]
    if other:
        raise SystemExit(
            f"{len(other)} of {len(rows)} rows are predicted otherwise among others than alone, first {other[0]}: "
            f"{ours[other[0]]} and {alone[other[0]]}"
        )
    alike = sum(
        same(plain.said(each), given) for each, given in zip(found["ours"], found["plain"], strict=True)
    )
    return {
        "task": task.name,
        "rows": len(rows),
        "largest_difference": max(map(largest_difference, ours, alone)),
        "decided_alike_by_plain": alike,
        "seconds": seconds,
        "machine": machine(),
    }


def _asked(value: Any) -> Any:
    """Return what a model is given: of a conversation all but the reply."""
    talk = isinstance(value, list) and value and isinstance(value[0], dict)
    return cast("list[Any]", value)[:-1] if talk else value


def _ways(predictor: Predictor, plain: Loaded) -> Mapping[str, Callable[[Rows], Sequence[Any]]]:
    answer = PLAIN[predictor.task.answer_kind]

    def in_file_order(rows: Rows) -> list[Any]:
        with torch.inference_mode():
            parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
            return [prediction for part in parts for prediction in answer(plain, part)]

    return {
        "ours": predictor,
        "plain": in_file_order,
        "one_by_one": lambda rows: [predictor([row])[0] for row in rows],
    }


def _by_turns(
    ways: Mapping[str, Callable[[Rows], Sequence[Any]]], rows: Rows, rounds: int
) -> tuple[dict[str, Sequence[Any]], dict[str, list[dict[str, float]]]]:
    """Return what each way predicted, and its seconds in each round; every round begins with another way."""
    found: dict[str, Sequence[Any]] = {}
    seconds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way in WAYS:  # for warmth, not measured
        ways[way](rows[:BATCH])
    for number in range(rounds):
        first = number % len(WAYS)
        for way in (*WAYS[first:], *WAYS[:first]):
            with stopwatch(digits=3) as passed:
                found[way] = ways[way](rows)
            seconds[way].append(passed)
    return found, seconds


def same(one: Any, other: Any) -> bool:
    """Whether two predictions agree: all names and places, and numbers but for rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pair = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(pair[0]) == len(pair[1]) and all(map(same, *pair))
    return one == other


def largest_difference(one: Any, other: Any) -> float:
    """Return by how much two numbers at the same place of two predictions that agree differ at most."""
    if isinstance(one, dict):
        given = cast("dict[str, Any]", one)
        return max((largest_difference(value, other[key]) for key, value in given.items()), default=0.0)
    if isinstance(one, list | tuple):
        return max(map(largest_difference, cast("Sequence[Any]", one), other), default=0.0)
    return abs(one - other) if isinstance(one, float) else 0.0


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| task | data | rows | ours, rows / s | plain loop, rows / s | one by one, rows / s | ours : plain "
        "| ours : one by one | as alone | largest difference | plain loop decides alike |",
        "|---|---|---:|---:|---:|---:|---|---|---|---:|---:|",
    ]
    by_data = {run["data"]: run for run in document["runs"]}
    for name in CASES:
        if name not in by_data:
            continue
        run = by_data[name]
        rates = {
            way: np.array([run["rows"] / passed["processor"] for passed in run["seconds"][way]])
            for way in WAYS
        }
        ratios = [rates["ours"] / rates[way] for way in WAYS[1:]]
        cells = [
            run["task"],
            name,
            f"{run['rows']:,}",
            *(f"{np.median(rates[way]):,.0f}" for way in WAYS),
            *(f"{np.median(each):.2f} [{each.min():.2f}, {each.max():.2f}]" for each in ratios),
            f"{run['rows']:,}",
            f"{run['largest_difference']:.0e}",
            f"{run['decided_alike_by_plain']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = common_arguments(__doc__, CASES, None, RESULTS)
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, {"runs": read_runs(arguments.output, *arguments.add)})
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        measure_all(arguments)
    document = {"runs": read_runs(arguments.output)}
    show("prediction_speed", tables(document), into_page=arguments.output == RESULTS)


def _data(name: str, folder: Path) -> TextSet:
    if CASES[name].written is None:
        return load(name, folder)
    splits = READERS[name](folder)
    return TextSet(name, splits["train"], splits["test"])


def measure_all(arguments: argparse.Namespace) -> None:
    """Measure what is not on file yet and write the file after each task."""
    folder = shared_data(arguments.shared_data)
    for name in arguments.data:
        key = run_key(data=name, **asdict(CASES[name]))
        runs = read_runs(arguments.output)
        if any(run["key"] == key for run in runs):
            continue
        run = {"key": key, "data": name, **measure(_data(name, folder), CASES[name])}
        kept = [each for each in runs if each["data"] != name]
        write_json(arguments.output, {"runs": sorted([*kept, run], key=lambda run: run["data"])})
        print(f"{name}: {run['seconds']}", flush=True)


if __name__ == "__main__":
    main()
