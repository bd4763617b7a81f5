"""How fast are texts classified, beside everything else one would use on a CPU?

    pip install "graftlm[onnx]"
    python benchmarks/inference_speed.py

One fine-tuned all-MiniLM-L6-v2, two kinds of text: *short* (development rows of SST-2; it was trained on others) and
*paragraphs* (of WikiText, cut at 256 tokens; it was trained to tell those that speak of him or her). Texts go in and
probabilities come out, in the order of the rows; tokenising is timed, too.

- ours: `Predictor` with all rows;
- pipeline: transformers' own, with the best of several batch sizes;
- sorted: plain torch, texts sorted by length, 32 a batch, padded to the longest of each;
- onnx: `Predictor` of the folder that `graft export` makes: the network fused by ONNX Runtime's optimiser;
- ours int8: that folder in int8, each token quantised by itself;
- onnx int8: the batches of *sorted* by ONNX Runtime with weights and activations quantised by its own
  `quantize_dynamic`, one scale for all activations of a batch. Of either int8, whose numbers are not equal, it is told
  how many rows it decides otherwise, beside the accuracy of every way on the timed rows.

All ways have the same threads and take turns; each round begins with another one. A ratio is the median over the rounds
of the ratio of wall seconds within a round, with its range. Where a probability of the exact ways differs from plain
torch by more than 1e-4, the benchmark fails.
"""

from __future__ import annotations

import argparse
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from arguments import add_parallel_arguments, common_arguments
from bundled_corpus import wikitext
from data_sets import Rows, load, shared_data
from numpy.typing import NDArray
from plain_predictions import Loaded, load_plain
from records import machine, read_runs, run_key, show, stopwatch

import graftlm
from graftlm.models.exported.files import FILES
from graftlm.models.exported.network import session_of
from graftlm.predictor import Predictor
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "inference_speed.json"
TEXTS = {"short": 800, "paragraphs": 300}
"""Kind of text -> how many are timed."""
TRAINED, MOST_TOKENS, BATCH, ROUNDS = 1_200, 256, 32, 5
_PERSON = re.compile(r"\b(?:he|she)\b", re.IGNORECASE)
PIPELINE_BATCHES = (1, 8, 32, 128)
QUANTISED = ("ours int8", "onnx int8")
TOLERANCE = 1e-4
MUSTS = {"short": 1.2, "paragraphs": 1.3}
Way = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> probabilities, [texts, labels]."""


def rows_of(kind: str, folder: Path) -> tuple[Rows, Rows]:
    """Return rows to train on, and rows to be timed on."""
    if kind == "short":
        given = load("sst2", folder)
        assert given.test is not None
        return given.train[:TRAINED], given.test[: TEXTS[kind]]
    lines = (line for text in wikitext(folder) for line in text.split("\n") if len(line.split()) >= 40)
    rows = [
        {"text": line, "label": "a person" if _PERSON.search(line) else "no person"}
        for line in itertools.islice(lines, TEXTS[kind] + TRAINED)
    ]
    return rows[TEXTS[kind] :], rows[: TEXTS[kind]]


def fine_tuned(rows: Rows, folder: Path) -> Path:
    """Return a run whose model was trained on rows that it can learn from."""
    options: dict[str, Any] = {
        "base": "bundled:minilm-l6", "training.epochs": 2, "task.max_length_tokens": MOST_TOKENS,
        "data.validation_share": 0.0, "data.test_share": 0.0, "training.device": "cpu",
    }  # fmt: skip
    return graftlm.finetune(rows, run_directory=folder / "run", quiet=True, **options).path


def ways(run: Path, rows: Rows) -> Iterator[tuple[str, Way]]:
    """Yield every way and its name; ``rows`` are those that an export is compared on."""
    plain = load_plain(run / "model")
    names = labels_of(run)
    predictor = Predictor.open(run, device="cpu")
    yield "ours", lambda texts: _scores([each.scores for each in predictor(list(texts))], names)
    yield "sorted", lambda texts: in_batches(plain, texts, lambda batch: plain.model(**batch).logits.numpy())
    pipeline: Any = transformers.pipeline(
        "text-classification", model=plain.model, tokenizer=plain.tokenizer, device="cpu"
    )
    limit = plain.facts.max_length_tokens
    for size in PIPELINE_BATCHES:

        def piped(texts: Sequence[str], size: int = size) -> NDArray[np.float32]:
            said = pipeline(list(texts), batch_size=size, top_k=None, truncation=True, max_length=limit)
            return _scores([{each["label"]: each["score"] for each in row} for row in said], names)

        yield f"pipeline {size}", piped
    folder = run.parent / "export"
    graftlm.export(run, folder, rows, int8=True, quiet=True)
    for name, precision in (("onnx", "fp32"), ("ours int8", "int8")):
        exported = Predictor.open(folder, precision=precision)
        yield (
            name,
            lambda texts, exported=exported: _scores([each.scores for each in exported(list(texts))], names),
        )
    from onnxruntime.quantization import (
        quantize_dynamic,
    )  # of the extra [onnx], which the export has asked for

    small = run.parent / "dynamic.onnx"
    quantize_dynamic(folder / FILES["fp32"], small)
    session = session_of(small.read_bytes())
    inputs = [each.name for each in session.get_inputs()]
    yield (
        "onnx int8",
        lambda texts: in_batches(
            plain, texts, lambda batch: session.run(None, {name: batch[name].numpy() for name in inputs})[0]
        ),
    )


def labels_of(run: Path) -> list[str]:
    """Return the names of the labels in the order of the network's outputs."""
    config: Any = transformers.AutoConfig.from_pretrained(run / "model")
    return [config.id2label[number] for number in range(config.num_labels)]


def in_batches(
    plain: Loaded, texts: Sequence[str], logits_of: Callable[[Any], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the probabilities of texts, sorted by their number of tokens for the batches, and back in order."""
    encoded = plain.tokenizer(list(texts), truncation=True, max_length=plain.facts.max_length_tokens)
    order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
    found = np.empty((len(texts), plain.model.config.num_labels), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = plain.tokenizer.pad(
                {name: [encoded[name][row] for row in rows] for name in encoded}, return_tensors="pt"
            )
            found[rows] = torch.from_numpy(logits_of(batch)).softmax(-1).numpy()
    return found


def _scores(said: Sequence[dict[str, float]], names: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[row[name] for name in names] for row in said], dtype=np.float32)


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """Return the seconds of every way in every round, and how far apart their probabilities are."""
    training, timed = rows_of(kind, folder)
    texts = [row["text"] for row in timed]
    with tempfile.TemporaryDirectory() as place:
        run = fine_tuned(training, Path(place))
        names = labels_of(run)
        everyone = dict(ways(run, timed[:64]))
        found = {name: way(texts) for name, way in everyone.items()}  # also warms it
        apart = {name: float(np.abs(each - found["sorted"]).max()) for name, each in found.items()}
        for name, difference in apart.items():
            if name not in QUANTISED and difference > TOLERANCE:
                raise SystemExit(f"{name} differs from plain torch by {difference:.1e}")
        seconds: dict[str, list[float]] = {name: [] for name in everyone}
        turns = list(everyone)
        for number in range(ROUNDS):
            for name in turns[number % len(turns) :] + turns[: number % len(turns)]:
                with stopwatch(digits=4) as passed:
                    everyone[name](texts)
                seconds[name].append(passed["wall"])
    otherwise = {
        name: int((found[name].argmax(-1) != found["sorted"].argmax(-1)).sum()) for name in QUANTISED
    }
    right = {
        name: float(np.mean([names[best] == row["label"] for best, row in zip(each.argmax(-1), timed, strict=True)]))
        for name, each in found.items()
    }  # fmt: skip
    return {
        "rows": len(texts), "seconds": seconds, "apart": apart, "decides_otherwise": otherwise,
        "accuracy": right, "machine": machine(),
    }  # fmt: skip


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| texts | rows | way | rows / s | ours is faster | must | accuracy | largest difference of a probability |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for run in sorted(document["runs"], key=lambda run: list(TEXTS).index(run["data"])):
        seconds = {name: np.array(each) for name, each in run["seconds"].items()}
        best = min(
            (name for name in seconds if name.startswith("pipeline")),
            key=lambda name: np.median(seconds[name]),
        )
        for name in ("ours", "sorted", best, "onnx", *QUANTISED):
            ratio = seconds[name] / seconds["ours"]
            faster = f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
            exact = name not in ("ours", *QUANTISED)
            other = f", {run['decides_otherwise'][name]} rows decided otherwise" if name in QUANTISED else ""
            lines.append(
                f"| {run['data']} | {run['rows']:,} | {name} | {run['rows'] / np.median(seconds[name]):,.0f} "
                f"| {faster if name != 'ours' else ''} | {MUSTS[run['data']] if exact else ''} "
                f"| {100 * run['accuracy'][name]:.1f} | {run['apart'][name]:.0e}{other} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = common_arguments(__doc__, TEXTS, None, RESULTS)
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    if arguments.add:
        write_json(arguments.output, {"runs": read_runs(arguments.output, *arguments.add)})
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        measure_all(arguments)
    document = {"runs": read_runs(arguments.output)}
    show("inference_speed", tables(document), into_page=arguments.output == RESULTS)


def measure_all(arguments: argparse.Namespace) -> None:
    """Measure what is not on file yet and write the file after each kind of text."""
    folder = shared_data(arguments.shared_data)
    for kind in arguments.data:
        key = run_key(
            data=kind,
            rows=TEXTS[kind],
            trained=TRAINED,
            batch=BATCH,
            rounds=ROUNDS,
            threads=torch.get_num_threads(),
        )
        runs = read_runs(arguments.output)
        if any(run["key"] == key for run in runs):
            continue
        run = {"key": key, "data": kind, **measure(kind, folder)}
        write_json(arguments.output, {"runs": [*runs, run]})
        print(f"{kind}: {run['seconds']}", flush=True)


if __name__ == "__main__":
    main()
