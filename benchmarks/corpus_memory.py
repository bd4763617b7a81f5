"""What a corpus takes that is larger than memory.

    python benchmarks/corpus_memory.py --gigabytes 10

Text is generated (documents of about 4 kB in sentences of pseudo words; every 50th repeats the one before it, every
53rd with a word changed), and `graftlm.data.corpus.building.build_corpus` makes token shards of it, with a WordPiece
tokenizer, in a process of its own that holds nothing else: no torch. Memory is the most that this process held.
Then, in a process each, what a pass of a pretraining over it needs before its first step: windows of 126 tokens in an
order that is drawn, and pairs for next-sentence prediction likewise; what the libraries take is not counted. Nothing of
the text remains.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from memory import peak_mib

from graftlm.data.corpus.building import build_corpus
from graftlm.data.corpus.options import CorpusOptions, DuplicateRule
from graftlm.progress import Silent
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "corpus_memory.json"
RULES: tuple[DuplicateRule, ...] = ("exact", "near")
PairKind = Literal["none", "next_sentence"]
PASSES: tuple[PairKind, ...] = ("none", "next_sentence")
MUST = "10 GB: 2,048 MiB"
SYLLABLES = [
    first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "en", "or", "is")
]
DOCUMENTS_IN_FILE = 50_000


def write_text(folder: Path, gigabytes: float) -> None:
    """Write about so much text as JSON Lines."""
    draw = random.Random(1)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(30_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    sentences = [
        " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 24))).capitalize() + "."
        for _ in range(20_000)
    ]
    written = documents = 0
    text = ""
    while written < gigabytes * 1e9:
        with (folder / f"{documents:09}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(DOCUMENTS_IN_FILE):
                if documents % 53 == 1:
                    text = text.replace(" ", " other ", 1)
                elif documents % 50 != 1:
                    count = max(2, int(draw.lognormvariate(3.3, 0.8)))
                    text = " ".join(draw.choices(sentences, k=count)) + f" Number {documents}."
                written += file.write(json.dumps({"text": text}) + "\n")
                documents += 1
                if written >= gigabytes * 1e9:
                    break


def work(folder: Path, rule: DuplicateRule) -> None:
    """Be the process that builds; print what it took."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import BertPreTokenizer

    pieces = ["[UNK]", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.", *SYLLABLES]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    vocabulary |= {f"##{piece}": number + len(vocabulary) for piece, number in vocabulary.items()}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()

    def tokenise(sentences: Sequence[str], begins: Sequence[bool]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(sentences))]

    options = CorpusOptions(path=str(folder / "text"), duplicates=rule)
    began = time.perf_counter()
    corpus = build_corpus(
        options, tokenise, len(vocabulary), "syllables", 0, folder / f"corpus-{rule}", Silent()
    )
    found = {
        "facts": corpus.facts,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mib": peak_mib(),
        "torch": "torch" in sys.modules,
    }
    print(json.dumps(found))


def begin_pass(folder: Path, pairs: PairKind) -> None:
    """Be the process that begins a pass over the corpus in ``folder``; print what it took."""
    from graftlm.data.corpus.shards import open_corpus
    from graftlm.models.base_model import load_tokenizer
    from graftlm.models.locating import locate
    from graftlm.models.vocabulary import Vocabulary
    from graftlm.pretraining_objectives._objective import Reading
    from graftlm.pretraining_objectives.masked_language_modelling import MaskedLanguageModelling
    from graftlm.training.order import TokenBudgets

    corpus, tokenizer = open_corpus(folder).train, load_tokenizer(locate("bundled:english-encoder"))
    vocabulary = Vocabulary.of(
        tokenizer, len(tokenizer)
    )  # of which only the special tokens of an example count here
    before, began = peak_mib(), time.perf_counter()
    examples = MaskedLanguageModelling(pairs=pairs).examples(corpus, vocabulary, Reading(128, 128, 1))
    next(TokenBudgets(4_096, 1, 1_000).steps(examples, 0))
    found = {"peak_mib": round(peak_mib() - before, 1), "seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(found))


def measure(gigabytes: float, rules: Sequence[DuplicateRule]) -> dict[str, dict[str, Any]]:
    """Return what each rule for duplicates takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        write_text(folder / "text", gigabytes)
        found: dict[str, dict[str, Any]] = {}
        for rule in rules:
            found[rule] = _told("--worker", name, "--rules", rule)
            found[rule]["passes"] = {
                pairs: _told("--worker", name, "--rules", rule, "--begin", pairs) for pairs in PASSES
            }
    return found


def _told(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| text, GB | duplicates left out | documents | of them left out | tokens | building, peak MiB | MB / s "
        "| a pass of windows, MiB | of pairs, MiB | must |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for run in sorted(document["runs"], key=lambda run: (run["gigabytes"], run["rule"])):
        facts, found = run["found"]["facts"], run["found"]
        parts = [facts["train"], facts["held_out"]]
        left_out = facts["exact_duplicates"] + facts["near_duplicates"]
        tokens = sum(part["tokens"] for part in parts)
        lines.append(
            f"| {run['gigabytes']:g} | {run['rule']} | {facts['documents_read']:,} | {left_out:,} | {tokens:,} | "
            f"{found['peak_mib']:.0f} | {run['gigabytes'] * 1e3 / found['seconds']:.1f} | "
            + "".join(
                f"{found['passes'][pairs]['peak_mib']:.0f} | " if "passes" in found else "- | "
                for pairs in PASSES
            )
            + f"{MUST} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="*", default=[10.0])
    parser.add_argument("--rules", choices=RULES, nargs="*", default=RULES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="show what is on file, measure nothing")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--begin", choices=PASSES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.begin:
        begin_pass(chosen.worker / f"corpus-{chosen.rules[0]}", chosen.begin)
        return
    if chosen.worker:
        work(chosen.worker, chosen.rules[0])
        return
    from records import machine, read_runs, run_key, show  # loads torch, which the worker must not hold

    runs = {run["key"]: run for run in read_runs(chosen.output)}
    for gigabytes in [] if chosen.table else chosen.gigabytes:
        for rule, found in measure(gigabytes, chosen.rules).items():
            key = run_key(gigabytes=gigabytes, rule=rule)
            run = {"key": key, "gigabytes": gigabytes, "rule": rule, "found": found, "machine": machine()}
            runs[key] = run
            write_json(chosen.output, {"runs": list(runs.values())})
    show("corpus_memory", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
