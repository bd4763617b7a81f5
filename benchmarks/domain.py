"""What further pretraining on a domain changes: on its text, on other text, and after fine-tuning.

    python benchmarks/domain.py

The domain is short comments on Reddit: those of the training rows of GoEmotions, without their labels. The bundled
encoder is trained further on them, three passes of hidden tokens, and judged before and after on held-out comments and
on WikiText, part of what it was pretrained on, which tells what was forgotten. Then both are fine-tuned on comments
that have one emotion, with 1,000 and 4,000 of the labels, and scored on all test rows of that kind; the difference is
that of the same test rows, drawn with replacement, averaged over the seeds. A run that is on file is not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from against_stock import compare
from arguments import add_parallel_arguments, common_arguments
from bundled_corpus import wikitext
from data_sets import Rows, load, shared_data
from records import machine, read_runs, run_key, show, stopwatch
from transfer import RATE, fine_tuned

import graftlm
from graftlm.models.locating import locate
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "domain.json"
PRETRAINING: dict[str, Any] = {
    "training.epochs": 3, "training.max_length_tokens": 128, "training.batch_tokens": 1_024,
    "training.learning_rate": 5e-4, "corpus.document": "line", "corpus.held_out_share": 0.05,
    "objective.pairs": "none",
}  # fmt: skip
LABELS = {"goemotions_1000": (1_000, 10), "goemotions_4000": (4_000, 6)}
"""Name of a comparison -> labelled rows, passes."""
SIDES = ("adapted", "before")
_TEXTS = {"held_out": "comments held out", "general_text": "WikiText, which it was pretrained on"}


def with_one_label(rows: Rows) -> Rows:
    """Return the rows that have one emotion, as rows of text classification."""
    return [{"text": row["text"], "label": row["labels"][0]} for row in rows if len(row["labels"]) == 1]


def adapt(base: str, seed: int, folder: Path, place: Path) -> dict[str, Any]:
    """Train a base model further in ``place / "run"``; return its scores on both texts, and how they changed."""
    comments = place / "comments.txt"
    comments.write_text("\n".join(" ".join(row["text"].split()) for row in load("goemotions", folder).train))
    general = place / "wikitext.jsonl"
    general.write_text("\n".join(json.dumps({"text": text}) for text in wikitext(folder)))
    options: dict[str, Any] = {
        "base": base,
        "seed": seed,
        "evaluation.general_text": str(general),
        **PRETRAINING,
    }
    run = graftlm.pretrain(comments, run_directory=place / "run", quiet=True, **options)
    found: dict[str, Any] = {}
    for name in _TEXTS:
        evaluation = json.loads(run.evaluation(name).read_text(encoding="utf-8"))
        before = evaluation["before"]
        found[name] = {
            "before": before["scores"]["values"], "after": evaluation["scores"]["values"],
            "change": before["change"]["values"], "documents": evaluation["scores"]["rows"],
        }  # fmt: skip
    return found


def run_seed(arguments: argparse.Namespace, seed: int, folder: Path) -> None:
    """Adapt with one seed, fine-tune what is not on file yet, and write the file after each run."""
    fingerprint = locate(arguments.base).fingerprint
    emotions = load("goemotions", folder)
    assert emotions.test is not None
    rows, test = with_one_label(emotions.train), with_one_label(emotions.test)
    keys = {
        (name, side): run_key(
            seed=seed, side=side, base=fingerprint, labels=LABELS[name], rate=RATE, **PRETRAINING
        )
        for name in arguments.data
        for side in SIDES
    }
    done = {run["key"] for run in read_runs(arguments.output)}
    if done >= set(keys.values()):
        return
    with tempfile.TemporaryDirectory() as place:
        texts = adapt(arguments.base, seed, folder, Path(place))
        for (name, side), key in keys.items():
            if key in done:
                continue
            count, epochs = LABELS[name]
            base = arguments.base if side == "before" else str(Path(place) / "run" / "model")
            with stopwatch() as seconds:
                found = fine_tuned(base, epochs, random.Random(seed).sample(rows, count), test, seed)
            run = {
                "key": key, "data": name, "seed": seed, "side": side, "base": arguments.base, "train_rows": count,
                "rows": found.dump(), "texts": texts, "seconds": seconds, "machine": machine(),
            }  # fmt: skip
            write_json(arguments.output, summarise([*read_runs(arguments.output), run]))
            print(name, seed, side, seconds, flush=True)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return runs and comparisons."""
    found = (compare(runs, name, "before", own_side="adapted") for name in LABELS)
    return {"runs": runs, "comparisons": [each for each in found if each]}


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown tables of a result file."""
    lines = [
        "| text | documents | seed | loss before | after | change | 95 % interval |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    texts = {run["seed"]: run["texts"] for run in document["runs"]}
    for name, title in _TEXTS.items():
        for seed, found in sorted(texts.items()):
            before, after, change = (found[name][key]["loss"] for key in ("before", "after", "change"))
            lines.append(
                f"| {title} | {found[name]['documents']:,} | {seed} | {before['value']:.3f} | {after['value']:.3f} "
                f"| {change['value']:+.3f} | [{change['low']:+.3f}, {change['high']:+.3f}] |"
            )
    lines += [
        "",
        "| labels | rows scored | seeds | accuracy, %: adapted | before | difference, points | 95 % interval |",
    ]
    lines += ["|---:|---:|---|---|---|---:|---|"]
    for found in document["comparisons"]:
        low, high = found["interval_points"]
        seeds, adapted, before = (", ".join(map(str, found[key])) for key in ("seeds", "ours", "theirs"))
        lines.append(
            f"| {LABELS[found['data']][0]:,} | {found['rows']:,} | {seeds} | {adapted} | {before} "
            f"| {found['difference_points']:+.2f} | [{low:+.2f}, {high:+.2f}] |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = common_arguments(__doc__, LABELS, [1, 2, 3], RESULTS)
    parser.add_argument("--base", default="bundled:english-encoder")
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, summarise(read_runs(arguments.output, *arguments.add)))
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        for seed in arguments.seeds:
            run_seed(arguments, seed, shared_data(arguments.shared_data))
    show("domain", tables(summarise(read_runs(arguments.output))), into_page=arguments.output == RESULTS)


if __name__ == "__main__":
    main()
