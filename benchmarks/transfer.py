"""What pretraining is worth: the bundled encoder against the same network with fresh weights.

    python benchmarks/transfer.py

Both sides have one recipe, tokenizer, seed and order of rows; only the weights they start from differ, and the learning
rate: for each setting and side it is the better of two, by a run of its own on rows that are not test rows
(development rows; for TREC a fifth of the training rows). SST-2 (8,000 rows, scored on the 1,821 test sentences of
the treebank), TREC and CoNLL-2003 (3,000 sentences, the original test rows) in full, and TREC with 100 to 3,000
labels for the learning curve (``--plot`` draws it into ``docs/images``; needs the extra ``[dev]``). The difference is
that of the same test rows, drawn with replacement, averaged over the seeds. A run that is on file is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_stock import Outcome, Rated, compare, outcome
from arguments import add_parallel_arguments, common_arguments
from data_sets import Rows, TextSet, load, shared_data
from records import machine, read_runs, run_key, show, stopwatch

import graftlm
from graftlm.models.artefact import save_base
from graftlm.models.base_model import load_config, load_tokenizer, mapped_class
from graftlm.models.locating import locate
from graftlm.models.new_model import new_model
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "transfer.json"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "learning-curve.png"
SIDES = ("pretrained", "fresh")
CURVE = (100, 300, 1_000, 3_000)
RATES = (3e-4, 1e-3)
DROPOUT = 0.1
CHOICE_SEED = 0
CHOICE = "choice of "
"""Before the name of a setting: its runs that choose the rate."""
RATE = 1e-3
"""Where nothing is chosen."""


@dataclass(frozen=True)
class Setting:
    """One comparison.

    Args:
        data: name of the set.
        epochs: passes over the training rows.
        train_rows: how many are taken; None takes all.
        first: whether these are the first of the file; else the seed draws them.
    """

    data: str
    epochs: int
    train_rows: int | None = None
    first: bool = True


SETTINGS = {
    "sst2": Setting("sst2_test", 4),
    "trec": Setting("trec", 10),
    "conll2003": Setting("conll2003", 8, train_rows=3_000),
    **{f"trec_{rows}": Setting("trec", max(10, 3_000 // rows), rows, first=False) for rows in CURVE},
}


def fresh_weights(base: str, folder: Path, seed: int) -> Path:
    """Write the network of a base model with weights from a seed, and its tokenizer; return the folder."""
    files = locate(base)
    config = load_config(files)
    heads = ("AutoModelForPreTraining", "AutoModelForMaskedLM", "AutoModelForCausalLM")
    model = new_model(config, next(head for head in heads if mapped_class(head, config)), seed)
    save_base(folder, model, load_tokenizer(files), {"seed": seed}, "")
    return folder


def train(side: str, setting: Setting, base: str, rows: Rows, test: Rows, seed: int, rate: float) -> Outcome:
    """Fine-tune one side and return what became of the test rows."""
    with tempfile.TemporaryDirectory() as place:
        start = base if side == "pretrained" else str(fresh_weights(base, Path(place) / "fresh", seed))
        return fine_tuned(start, setting.epochs, rows, test, seed, rate)


def fine_tuned(base: str, epochs: int, rows: Rows, test: Rows, seed: int, rate: float = RATE) -> Outcome:
    """Fine-tune a base model, all weights at one rate, and return what became of the test rows."""
    options: dict[str, Any] = {
        "base": base, "seed": seed, "data.validation_share": 0.0, "training.epochs": epochs,
        "training.keep": "last", "training.learning_rate": rate, "training.dropout": DROPOUT,
        "training.device": "cpu", "evaluation.proof": "none",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        splits = {"train": rows, "test": test}
        run = graftlm.finetune(splits, run_directory=Path(place) / "run", quiet=True, **options)
        lines = run.directory.predictions("test").read_text(encoding="utf-8").splitlines()
    return outcome([json.loads(line) for line in lines], test)


def chosen(rows: Rows, setting: Setting, seed: int) -> Rows:
    """Return the training rows of a setting."""
    if setting.train_rows is None or setting.first:
        return rows[: setting.train_rows]
    return random.Random(seed).sample(rows, setting.train_rows)


def choosing(texts: TextSet, setting: Setting) -> tuple[Rows, Rows]:
    """Return rows to train and rows to score by which a rate is chosen: no test rows are among them."""
    if texts.validation is not None:
        return chosen(texts.train, setting, CHOICE_SEED), texts.validation
    mixed = random.Random(CHOICE_SEED).sample(texts.train, len(texts.train))
    fifth = len(mixed) // 5
    return chosen(mixed[fifth:], setting, CHOICE_SEED), mixed[:fifth]


def best_rate(runs: list[dict[str, Any]], name: str, side: str) -> float:
    """Return the rate of the best run that chooses for a side of a setting; of equal ones the lower."""
    found = {run["rate"]: points(run) for run in runs if run["data"] == CHOICE + name and run["side"] == side}
    return max(sorted(found), key=found.__getitem__)


def points(run: dict[str, Any]) -> float:
    """Return the score of a run, x 100."""
    rated = Rated(run)
    return float(rated.score(np.ones(len(rated.hits))))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return runs and comparisons."""
    found = (compare(runs, name, "fresh", own_side="pretrained") for name in SETTINGS)
    return {"runs": runs, "comparisons": [each for each in found if each]}


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| data | rows: train, scored | passes | metric, x 100 | rates | seeds | pretrained | fresh "
        "| difference, points | 95 % interval |",
        "|---|---|---:|---|---|---|---|---|---:|---|",
    ]
    train_rows = {run["data"]: run["train_rows"] for run in document["runs"]}
    rates = {(run["data"], run["side"]): run["rate"] for run in document["runs"]}
    earlier = {
        run["data"]
        for run in document["runs"]
        if json.loads(run["key"])["base"] != locate(run["base"]).fingerprint
    }
    for found in document["comparisons"]:
        name, (low, high) = found["data"], found["interval_points"]
        cells = [
            name.partition("_")[0] + (" (an earlier encoder)" if name in earlier else ""),
            f"{train_rows[name]:,}, {found['rows']:,}", f"{SETTINGS[name].epochs}",
            found["metric"], ", ".join(f"{rates[name, side]:g}" for side in SIDES),
            *(", ".join(map(str, found[key])) for key in ("seeds", "ours", "theirs")),
            f"{found['difference_points']:+.2f}", f"[{low:+.2f}, {high:+.2f}]",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw accuracy on TREC against the number of labels, each seed a point, the mean a line."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('the plot needs matplotlib: pip install "graftlm[dev]"') from None
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for side, marker in zip(SIDES, "os", strict=True):
        runs = [run for run in document["runs"] if run["data"].startswith("trec") and run["side"] == side]
        found = sorted((run["train_rows"], points(run)) for run in runs)
        sizes = sorted({rows for rows, _ in found})
        means = [np.mean([score for rows, score in found if rows == size]) for size in sizes]
        (line,) = axes.plot(sizes, means, label=f"{side} weights")
        axes.scatter(*zip(*found, strict=True), marker=marker, color=line.get_color(), alpha=0.6)
    axes.set_xscale("log")
    axes.set_xticks([*CURVE, 5_452], [f"{size:,}" for size in (*CURVE, 5_452)], minor=False)
    axes.set_xlabel("labelled training rows of TREC")
    axes.set_ylabel("accuracy on the 500 test rows, %")
    axes.grid(alpha=0.3)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = common_arguments(__doc__, SETTINGS, [1, 2, 3], RESULTS)
    parser.add_argument("--base", default="bundled:english-encoder")
    parser.add_argument(
        "--plot", type=Path, nargs="?", const=PLOT, help="draw the learning curve into this file"
    )
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, summarise(read_runs(arguments.output, *arguments.add)))
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        train_all(arguments)
    document = summarise(read_runs(arguments.output))
    show("transfer", tables(document), into_page=arguments.output == RESULTS)
    if arguments.plot:
        plot(document, arguments.plot)


def train_all(arguments: argparse.Namespace) -> None:
    """Train what is not on file yet, the choices first, then seed by seed, and write the file after each run."""
    folder = shared_data(arguments.shared_data)
    for name in arguments.data:
        drop_others(arguments, name)
        texts = load(SETTINGS[name].data, folder)
        for side, rate in itertools.product(SIDES, RATES):
            rows, scored = choosing(texts, SETTINGS[name])
            keep(arguments, CHOICE + name, side, rate, CHOICE_SEED, rows, scored)
        for seed, side in itertools.product(arguments.seeds, SIDES):
            assert texts.test is not None
            rate = best_rate(read_runs(arguments.output), name, side)
            rows = chosen(texts.train, SETTINGS[name], seed)
            keep(arguments, name, side, rate, seed, rows, texts.test)


def condition(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return what all runs of a setting have in common."""
    setting = asdict(SETTINGS[name.removeprefix(CHOICE)])
    return {"base": locate(arguments.base).fingerprint, "dropout": DROPOUT, **setting}


def drop_others(arguments: argparse.Namespace, name: str) -> None:
    """Take the runs of a setting from the file that were made under other conditions: they cannot be compared."""
    wanted = condition(arguments, name)
    kept = [
        run
        for run in read_runs(arguments.output)
        if run["data"].removeprefix(CHOICE) != name
        or all(json.loads(run["key"]).get(key) == value for key, value in wanted.items())
    ]
    write_json(arguments.output, summarise(kept))


def keep(
    arguments: argparse.Namespace, name: str, side: str, rate: float, seed: int, rows: Rows, scored: Rows
) -> None:
    """Train one side and add it to the file, unless it is there."""
    setting = SETTINGS[name.removeprefix(CHOICE)]
    what = {"name": name, "seed": seed, "side": side, "rate": rate}
    key = run_key(**what, **condition(arguments, name))
    if any(run["key"] == key for run in read_runs(arguments.output)):
        return
    with stopwatch() as seconds:
        found = train(side, setting, arguments.base, rows, scored, seed, rate)
    run = {
        "key": key, "data": name, "seed": seed, "side": side, "rate": rate, "base": arguments.base,
        "train_rows": len(rows), "rows": found.dump(), "seconds": seconds, "machine": machine(),
    }  # fmt: skip
    write_json(arguments.output, summarise([*read_runs(arguments.output), run]))
    print(name, seed, side, rate, round(points(run), 2), seconds, flush=True)


if __name__ == "__main__":
    main()
