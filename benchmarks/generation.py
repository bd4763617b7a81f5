"""Texts written by small networks that start from nothing: translation, summaries and replies on a CPU.

    python benchmarks/generation.py

No pretrained model that writes is needed: tokenizer and network are made here from the training rows, so the figures
say what training and writing are worth, not what a large model knows. Multi30k: English captions to German, scored on
test 2016. SciTLDR: abstract to one sentence, the first reference of each paper. XDailyDialog: the last reply of English
dialogues; perplexity is per token of the tokenizer made here. A run that is on file is not repeated.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from arguments import add_parallel_arguments, common_arguments
from data_sets import Rows, shared_data
from records import machine, read_runs, run_key, show, stopwatch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import graftlm
from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "generation.json"
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
# Everything that is not a default.
SETTINGS: dict[str, dict[str, Any]] = {
    "multi30k": {
        "task.name": "text_generation", "task.max_target_tokens": 64, "task.primary_metric": "bleu",
        "objective.label_smoothing": 0.1, "training.epochs": 10, "training.batch_size": 64,
        "training.learning_rate": 1e-3,
    },
    "scitldr": {
        "task.name": "text_generation", "task.max_target_tokens": 64, "task.max_length_tokens": 400,
        "task.primary_metric": "rouge1", "task.no_repeat_ngram_size": 3, "objective.label_smoothing": 0.1,
        "training.epochs": 10, "training.batch_size": 32, "training.learning_rate": 1e-3,
    },
    "xdailydialog": {
        "task.name": "dialogue", "task.max_target_tokens": 48, "task.max_length_tokens": 256,
        "training.epochs": 8, "training.batch_size": 16, "training.learning_rate": 1e-3,
    },
}  # fmt: skip
GOALS = {"multi30k": "BLEU 20"}
SHOWN = {
    "multi30k": ("bleu", "chrf", "length_ratio", "cut_share"),
    "scitldr": ("rouge1", "rouge2", "rougeL", "length_ratio"),
    "xdailydialog": ("perplexity", "distinct_1", "distinct_2", "bleu", "rougeL"),
}


def multi30k(folder: Path) -> dict[str, Rows]:
    """Return the English-German captions with the splits of the set."""
    place = folder / "multi30k"

    def lines(name: str) -> list[str]:
        file = place / name
        content = file.read_bytes() if file.exists() else gzip.decompress((place / f"{name}.gz").read_bytes())
        return content.decode().rstrip("\n").split("\n")

    parts = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    return {
        split: [
            {"source": source.strip(), "target": target.strip()}
            for source, target in zip(lines(f"{name}.en"), lines(f"{name}.de"), strict=True)
        ]
        for split, name in parts.items()
    }


def scitldr(folder: Path) -> dict[str, Rows]:
    """Return abstracts and their first summary."""
    place = folder / "scitldr"

    def rows(content: str) -> Rows:
        papers = map(json.loads, content.rstrip("\n").split("\n"))
        return [{"source": " ".join(paper["source"]), "target": paper["target"][0]} for paper in papers]

    return {
        "train": rows(gzip.decompress((place / "train.jsonl.gz").read_bytes()).decode()),
        "validation": rows((place / "dev.jsonl").read_text("utf-8")),
        "test": rows((place / "test.jsonl").read_text("utf-8")),
    }


def xdailydialog(folder: Path) -> dict[str, Rows]:
    """Return English dialogues, speakers by turns, the last turn the assistant's.

    The training dialogues of the set are not in the stored copy: its development part and the labelled thousand train.
    """
    place = folder / "xdailydialog"

    def rows(name: str) -> Rows:
        found: Rows = []
        for line in (place / name).read_text("utf-8").rstrip("\n").split("\n"):
            said = line.partition("\t")[0]  # topic, acts and emotions stand behind it in some files
            turns = [turn.strip() for turn in said.split("__eou__") if turn.strip()]
            roles = [("assistant", "user")[number % 2] for number in range(len(turns))][::-1]
            messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
            if len(messages) > 1:
                found.append({"messages": messages})
        return found

    test = rows("en_test_human.txt")
    known = {json.dumps(row) for row in test}
    train = [*rows("1k_part/dialogues_text_En.txt"), *rows("en_dev_human.txt")]
    return {"train": [row for row in train if json.dumps(row) not in known], "test": test}


READERS = {"multi30k": multi30k, "scitldr": scitldr, "xdailydialog": xdailydialog}


def texts_of(rows: Rows) -> Iterable[str]:
    """Yield every text of the rows."""
    for row in rows:
        yield from (message["content"] for message in row["messages"]) if "messages" in row else row.values()


def make_base(folder: Path, texts: Iterable[str], writes_only: bool, seed: int) -> Path:
    """Write a small base model whose weights are random: byte-pair tokenizer of the texts, and a Transformer.

    Args:
        folder: to be made.
        texts: what the tokenizer is made of.
        writes_only: a decoder instead of an encoder with a decoder.
        seed: of the weights.
    """
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=4_000, min_frequency=2, special_tokens=list(_SPECIAL))
    backend.train_from_iterator(texts, trainer)
    if not writes_only:
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", _SPECIAL.index("</s>"))]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=512, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)  # fmt: skip
    tokens: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = backend.get_vocab_size()
    if writes_only:
        config: Any = transformers.LlamaConfig(
            vocab_size=size, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
            max_position_embeddings=512, tie_word_embeddings=True, **tokens,
        )  # fmt: skip
    else:
        config = transformers.PegasusConfig(  # layer norms before each part: trains from nothing without tricks
            vocab_size=size, d_model=256, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=512, decoder_ffn_dim=512, max_position_embeddings=512,
            dropout=0.1, activation_function="relu", scale_embedding=True, decoder_start_token_id=1,
            forced_eos_token_id=None, **tokens,
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = transformers.AutoModelForCausalLM if writes_only else transformers.AutoModelForSeq2SeqLM
        kind.from_config(config).save_pretrained(folder)
    return folder


def run_once(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train on one data set and return what the run recorded."""
    data = READERS[name](folder)
    with tempfile.TemporaryDirectory() as place, stopwatch() as seconds:
        base = make_base(Path(place) / "base", texts_of(data["train"]), name == "xdailydialog", seed)
        run = graftlm.finetune(
            data, base=str(base), run_directory=Path(place) / "run", quiet=True, seed=seed, **SETTINGS[name]
        )
        evaluation, record = run.evaluation("test"), run.record
    return {
        "scores": evaluation["scores"]["values"],
        "signatures": evaluation["scores"]["signatures"],
        "baselines": {
            each["name"]: each["scores"]["values"]
            for each in (evaluation["baseline"], *evaluation["other_baselines"])
        },
        "rows": record["data"]["rows"],
        "steps": record["steps"],
        "proof": record["proof"],
        "training_seconds": record["training_seconds"],
        "seconds": seconds,
    }


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| data | rows: train, validation, held out | scores on held-out rows [95 % interval] | goal | baselines "
        "| steps | training, wall min | whole run, processor min |",
        "|---|---|---|---|---|---:|---:|---:|",
    ]
    for run in document["runs"]:
        name = run["data"]
        baselines: list[str] = []
        for called, scores in run["baselines"].items():
            known = [f"{metric} {_shown(metric, scores)}" for metric in SHOWN[name] if metric in scores]
            baselines.append(f"{called}: {', '.join(known)}")
        cells = [
            name,
            ", ".join(f"{count:,}" for count in run["rows"].values()),
            ", ".join(f"{metric} {_shown(metric, run['scores'], True)}" for metric in SHOWN[name]),
            GOALS.get(name, ""),
            "; ".join(baselines),
            str(run["steps"]),
            f"{run['training_seconds'] / 60:.0f}",
            f"{run['seconds']['processor'] / 60:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    signatures = {
        f"{metric}: `{text}`" for run in document["runs"] for metric, text in run["signatures"].items()
    }
    return "\n".join([*lines, "", *(f"- {each}" for each in sorted(signatures))])


def _shown(metric: str, scores: dict[str, Any], interval: bool = False) -> str:
    scale = 100 if metric in ("bleu", "chrf") or metric.startswith("rouge") else 1
    value, low, high = (
        f"{scale * scores[metric][end]:.{1 if scale > 1 else 3}f}" for end in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if interval else value


def main() -> None:
    parser = common_arguments(__doc__, SETTINGS, [1], RESULTS)
    add_parallel_arguments(parser)
    arguments = parser.parse_args()
    runs = read_runs(arguments.output, *arguments.add)
    if not arguments.table:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        folder = shared_data(arguments.shared_data)
        for name in arguments.data:
            for seed in arguments.seeds:
                key = run_key(data=name, seed=seed, **SETTINGS[name])
                if any(run["key"] == key for run in runs):
                    continue
                runs.append(
                    {
                        "key": key,
                        "data": name,
                        "seed": seed,
                        **run_once(name, folder, seed),
                        "machine": machine(),
                    }
                )
                write_json(arguments.output, {"runs": runs})
    elif arguments.add:
        write_json(arguments.output, {"runs": runs})
    show("generation", tables({"runs": runs}), into_page=arguments.output == RESULTS)


if __name__ == "__main__":
    main()
