"""Same model, same hyper-parameters: is the score of GraftLM that of ``transformers.Trainer``?

    python benchmarks/against_stock.py

For each data set and seed two or three trainings, all without a validation split and with the last weights:

- ours: `graftlm.finetune`;
- stock, paired: the Trainer with our new head, our order of batches and our keyed dropout, so that what differs is
  the loop (for answers also the padding, which the head of transformers lets compete, is masked as ours is). What
  writes starts from a small random base, as in `generation.py`, and takes the likeliest token each time;
- stock, independent, on SST-2 and TREC: the Trainer as people use it, with its own head, shuffling and dropout.

Outputs become answers by the same rule on both sides. Each difference (ours - stock) comes with a 95 % interval: rows
are drawn with replacement, the same rows for both sides and all seeds; questions about one context are drawn together
where the record says which these are (none of the first records does). A run that is on file is not repeated.
``--table`` trains nothing and shows what is on file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import add_parallel_arguments, common_arguments
from data_sets import Rows, TextSet, load, shared_data
from generation import READERS, make_base, texts_of
from numpy.typing import NDArray
from records import machine, read_runs, run_key, show, stopwatch
from stock_trainer import train_independent, train_paired

import graftlm
from graftlm.data.options import DataOptions
from graftlm.data.tag_schemes import spans_of
from graftlm.predictor import Predictor
from graftlm.progress import Silent
from graftlm.recipe import BATCH_TOKENS
from graftlm.rundir import write_json
from graftlm.scoring.answer_texts import answer_scores
from graftlm.workflows.unseen_rows import read_unseen

RESULTS = Path(__file__).parent / "results" / "against_stock.json"
BASE = "bundled:minilm-l6"
BATCH, WEIGHT_DECAY, WARMUP, CLIP = 16, 0.01, 0.1, 1.0
SIDES = ("ours", "stock_paired", "stock_independent")
RESAMPLES, RESAMPLES_AT_ONCE = 10_000, 500
BOUND_POINTS = -0.5


@dataclass(frozen=True)
class Setting:
    """What differs between the data sets.

    Args:
        epochs: passes over the training rows.
        learning_rate: at its peak.
        longest: tokens that are read at once.
        train_rows: the first so many are trained on; None all.
        test_rows: the first so many are scored; None all.
        written: tokens of a text that is written, by a base as `generation.py` makes it; None where none is.
        least_probability: labels of a set are given from this on; after a training so short hardly any reaches a half.
    """

    epochs: int
    learning_rate: float
    longest: int = 128
    train_rows: int | None = None
    test_rows: int | None = None
    written: int | None = None
    least_probability: float = 0.5

    @property
    def changed(self) -> dict[str, Any]:
        """What is not its default."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


# All but the first two are pieces that take a few minutes on a core.
SETTINGS = {
    "sst2": Setting(2, 5e-5),
    "trec": Setting(5, 1e-4),
    "mrpc": Setting(2, 1e-4, train_rows=1_000),
    "stsb": Setting(1, 3e-4, train_rows=2_000),
    "goemotions": Setting(1, 3e-4, train_rows=6_000, test_rows=2_000, least_probability=0.2),
    "conll2003": Setting(1, 3e-4, longest=256, train_rows=4_000),
    "squadshifts": Setting(1, 3e-4, longest=384, train_rows=400, test_rows=200),
    "multi30k": Setting(2, 1e-3, train_rows=2_000, test_rows=200, written=64),
    "xdailydialog": Setting(1, 1e-3, longest=256, train_rows=800, test_rows=200, written=48),
}
INDEPENDENT = ("sst2", "trec")


def options(setting: Setting, seed: int, base: str) -> dict[str, Any]:
    """Return the recipe keys, which both sides follow."""
    writing = {"task.max_target_tokens": setting.written, "task.num_beams": 1, "data.test_share": 0.0}
    return {
        **({} if setting.written is None else writing),
        "base": base,
        "seed": seed,
        "data.validation_share": 0.0,
        "task.max_length_tokens": setting.longest,
        "training.epochs": setting.epochs,
        "training.learning_rate": setting.learning_rate,
        "training.batch_size": BATCH,
        "training.order": "shuffled",
        "training.execution": "padded",  # where dropout follows torch's generator, which both sides can share
        "strategy.layer_decay": 1.0,
        "training.weight_decay": WEIGHT_DECAY,
        "training.warmup_share": WARMUP,
        "training.max_gradient_norm": CLIP,
        "training.keep": "last",
        "training.device": "cpu",
        "evaluation.proof": "none",
    }


def train_ours(splits: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what our model says about each test row, and the reference."""
    writes = "task.max_target_tokens" in options
    with tempfile.TemporaryDirectory() as folder:
        rows = splits["train"] if writes else splits
        run = graftlm.finetune(rows, run_directory=Path(folder) / "run", quiet=True, **options)
        if writes:  # the files of a run hold no texts
            return written_by(run.predictor("cpu"), splits["test"])
        lines = run.directory.predictions("test").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def written_by(predictor: Predictor, rows: Rows) -> list[dict[str, Any]]:
    """Return what our model writes for each row, and how probable it finds the target."""
    split = read_unseen(rows, predictor.trained_roles, DataOptions(), predictor.facts.reading, Silent())
    return [
        {
            "text": each.text,
            "log_probability": each.reference_log_probability,
            "tokens": each.reference_tokens,
        }
        for each in predictor.predict(split, BATCH_TOKENS, compared=True)
    ]


TRAIN: dict[str, Callable[[Any, dict[str, Any]], list[dict[str, Any]]]] = {
    "ours": train_ours,
    "stock_paired": train_paired,
    "stock_independent": train_independent,
}


@dataclass(frozen=True)
class Outcome:
    """What became of the test rows. The score is 2 hits / (wanted + given), summed over rows: accuracy, or F1, or the
    mean of the F1 of answers; for texts the mean natural log-probability of the tokens of the targets. For numbers it
    is the correlation of ``given`` and ``wanted``.
    """

    metric: str
    hits: Sequence[float]
    wanted: Sequence[float]
    given: Sequence[float]
    decided: Sequence[str]
    together: Sequence[int] = ()
    """For each row the number of its context, where several rows may have the same."""

    def dump(self) -> dict[str, Any]:
        """Return plain values, a line of text for all rows."""
        values = {"hits": self.hits, "wanted": self.wanted, "given": self.given, "decided": self.decided}
        values |= {"together": self.together} if self.together else {}
        return {
            "metric": self.metric,
            **{name: " ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in column)
               for name, column in values.items()},
        }  # fmt: skip


def outcome(found: list[dict[str, Any]], rows: Rows, least_probability: float = 0.5) -> Outcome:
    """Return what the records of a run's predictions are worth; see `Setting` for the last argument."""
    ones = [1] * len(found)
    pairs = list(zip(found, rows, strict=True))
    if "label" in found[0]:
        hits = [int(each["label"] == each["reference"]) for each in found]
        return Outcome("accuracy", hits, ones, ones, [_mark(each["label"]) for each in found])
    if "text" in found[0]:
        tokens = [each["tokens"] for each in found]
        hits = [each["log_probability"] for each in found]
        return Outcome("log_probability", hits, tokens, tokens, [_mark(each["text"]) for each in found])
    if "number" in found[0]:
        given, wanted = ([float(each[key]) for each in found] for key in ("number", "reference"))
        return Outcome("pearson", [0] * len(found), wanted, given, [f"{value:.2f}" for value in given])
    if "answers" in rows[0]:
        f1 = [_answer_f1(each, row) for each, row in pairs]
        numbers: dict[str, int] = {}
        contexts = [numbers.setdefault(row["context"], len(numbers)) for row in rows]
        return Outcome(
            "f1", f1, ones, ones, [_mark([each["start"], each["end"]]) for each in found], contexts
        )
    if "tags" in found[0]:
        sets = [[set(spans_of(each[key])) for each in found] for key in ("tags", "reference")]
    else:
        likely = [
            {label for label, score in each["scores"].items() if score >= least_probability} for each in found
        ]
        sets = [likely, [set(each["reference"]) for each in found]]
    hits = [len(one & other) for one, other in zip(*sets, strict=True)]
    given, wanted = ([len(each) for each in side] for side in sets)
    return Outcome("f1_micro", hits, wanted, given, [_mark(sorted(each)) for each in sets[0]])


def _answer_f1(record: dict[str, Any], row: dict[str, Any]) -> float:
    given = "" if record["start"] is None else row["context"][record["start"] : record["end"]]
    right = [answer["text"] for answer in row["answers"]]
    return answer_scores(given, right, None, may_lack=False)[1]


def _mark(decision: object) -> str:
    """Return a few characters that tell decisions apart."""
    return hashlib.blake2b(json.dumps(decision).encode(), digest_size=3).hexdigest()


class Rated:
    """The rows of a run that is on file, ready to be scored with any weights.

    Args:
        run: with the entry ``rows``, see `Outcome.dump`.
    """

    def __init__(self, run: dict[str, Any]) -> None:
        rows = run["rows"]
        self.metric: str = rows["metric"]
        self.decided: list[str] = rows["decided"].split(" ")
        self.hits, self.wanted, self.given = (
            np.array(rows[name].split(" "), dtype=np.float64) for name in ("hits", "wanted", "given")
        )
        contexts = rows["together"].split(" ") if "together" in rows else range(len(self.hits))
        self.together = np.array(contexts, dtype=np.int64)

    def score(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score in points for rows that count so often each [..., rows]."""
        if self.metric != "pearson":
            return 200 * (weights @ self.hits) / (weights @ (self.wanted + self.given))
        total = weights.sum(axis=-1)
        products = (self.wanted * self.given, self.wanted**2, self.given**2)
        x, y, xy, xx, yy = (weights @ column / total for column in (self.wanted, self.given, *products))
        return 100 * (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))


def compare(
    runs: list[dict[str, Any]], data: str, stock: str, own_side: str = "ours"
) -> dict[str, Any] | None:
    """Return ours - stock in points, over the seeds that both sides have, with its paired interval."""
    own = {run["seed"]: Rated(run) for run in runs if run["data"] == data and run["side"] == own_side}
    other = {run["seed"]: Rated(run) for run in runs if run["data"] == data and run["side"] == stock}
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return None
    rows, together = len(own[seeds[0]].hits), own[seeds[0]].together
    units = int(together.max()) + 1
    random = np.random.default_rng(0)
    drawn = random.integers(units, size=(RESAMPLES, units))
    differences: list[NDArray[np.float64]] = []
    for start in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        some = drawn[start : start + RESAMPLES_AT_ONCE]
        weights = np.array([np.bincount(each, minlength=units) for each in some], dtype=np.float64)[
            :, together
        ]
        of_seeds = [own[seed].score(weights) - other[seed].score(weights) for seed in seeds]
        differences.append(np.mean(of_seeds, axis=0))
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    ours, theirs = ([float(side[seed].score(np.ones(rows))) for seed in seeds] for side in (own, other))
    changed = [
        sum(a != b for a, b in zip(own[seed].decided, other[seed].decided, strict=True)) for seed in seeds
    ]
    return {
        "data": data,
        "stock": stock,
        "metric": own[seeds[0]].metric,
        "rows": rows,
        "seeds": seeds,
        "ours": [round(score, 2) for score in ours],
        "theirs": [round(score, 2) for score in theirs],
        "difference_points": round(float(np.mean(ours) - np.mean(theirs)), 3),
        "interval_points": [round(float(low), 3), round(float(high), 3)],
        "within_bound": bool(low >= BOUND_POINTS),
        "rows_decided_differently": changed,
    }


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    lines = [
        "| data | rows: train, scored | against | seeds | metric, x 100 | ours | stock | ours - stock, points "
        "| 95 % interval | lower bound >= -0.5 | rows decided differently |",
        "|---|---|---|---|---|---|---|---:|---|---|---|",
    ]
    train_rows = {run["data"]: run["train_rows"] for run in document["runs"]}
    for found in document["comparisons"]:
        low, high = found["interval_points"]
        lines.append(
            f"| {found['data']} | {train_rows[found['data']]:,}, {found['rows']:,} "
            f"| {found['stock'].replace('_', ', ')} "
            f"| {_joined(found['seeds'])} | {found['metric']} | {_joined(found['ours'])} | {_joined(found['theirs'])} "
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
            setting = SETTINGS[name]
            read = setting.written is None
            data = load(name, folder) if read else TextSet(name, **READERS[name](folder))
            for side in arguments.sides:
                key = run_key(data=name, side=side, seed=seed, **setting.changed)
                on_file = any(run["key"] == key for run in read_runs(arguments.output))
                if on_file or (side == "stock_independent" and name not in INDEPENDENT):
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
    """Train one side once and return what became of each test row."""
    train, test = data.train[: setting.train_rows], (data.test or [])[: setting.test_rows]
    with tempfile.TemporaryDirectory() as folder:
        base = BASE
        if setting.written is not None:
            base = str(make_base(Path(folder) / "base", texts_of(train), "messages" in train[0], seed))
        with stopwatch() as seconds:
            found = TRAIN[side]({"train": train, "test": test}, options(setting, seed, base))
    rows = outcome(found, test, setting.least_probability).dump()
    return {
        "score": round(float(Rated({"rows": rows}).score(np.ones(len(test)))) / 100, 6),
        "train_rows": len(train),
        "rows": rows,
        "seconds": seconds,
        "machine": machine(),
    }


if __name__ == "__main__":
    main()
