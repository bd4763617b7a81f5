"""A script for the Trainer, with tiny random models and data, for ours and for that of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import TrainerCallback, TrainingArguments

VOCABULARY, LABELS = 90, 3
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64, "decoder_start_token_id": 1,
    "bos_token_id": 1, "eos_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "eos_token_id": 1, "bos_token_id": 1}
OFF = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0},
    "bart": {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}
HEADS = {
    "labels": "SequenceClassification",
    "numbers": "SequenceClassification",
    "label_sets": "SequenceClassification",
    "tags": "TokenClassification",
    "spans": "QuestionAnswering",
    "masked": "MaskedLM",
    "causal": "LMHead",
    "written": "ConditionalGeneration",
    "pairs": "PreTraining",
}
PROBLEMS = {"label_sets": "multi_label_classification", "numbers": "regression"}
NAMES = {
    "bart": "Bart",
    "bert": "Bert",
    "roberta": "Roberta",
    "electra": "Electra",
    "distilbert": "DistilBert",
    "gpt2": "GPT2",
}


def model(family: str, kind: str, seed: int, dropout: bool = False, vocabulary: int = VOCABULARY) -> Any:
    """Return a two-layer network with a head."""
    small = {"bart": BART, "distilbert": DISTILBERT, "gpt2": GPT2}.get(family, SMALL)
    options: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": 0, **small}
    options["num_labels"] = {"numbers": 1, "spans": 2}.get(kind, LABELS)
    if kind in PROBLEMS:
        options["problem_type"] = PROBLEMS[kind]
    if not dropout:
        options |= OFF.get(family, OFF["bert"])
    head = "ForCausalLM" if kind == "causal" and family != "gpt2" else None
    name = f"{NAMES[family]}{head or ('LMHeadModel' if kind == 'causal' else 'For' + HEADS[kind])}"
    config = getattr(transformers, f"{NAMES[family]}Config")(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, name)(config)


def rows(kind: str, seed: int, count: int = 40, same_length: int | None = None) -> list[dict[str, Any]]:
    """Return random rows with labels of a kind; answers are marked in texts of one length."""
    random = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    if kind == "spans":
        same_length = same_length or 14
    for _ in range(count):
        length = same_length or int(random.integers(3, 20))
        ids = random.integers(2, VOCABULARY, size=length).tolist()
        row: dict[str, Any] = {"input_ids": ids}
        match kind:
            case "labels":
                row["labels"] = int(random.integers(LABELS))
            case "numbers":
                row["labels"] = float(random.normal())
            case "label_sets":
                row["labels"] = random.integers(0, 2, size=LABELS).astype(float).tolist()
            case "tags":
                tags = random.integers(0, LABELS, size=length)
                row["labels"] = np.where(random.random(length) < 0.3, -100, tags).tolist()
                row["labels"][0] = 1
            case "written":
                row["labels"] = random.integers(2, VOCABULARY, size=int(random.integers(1, 12))).tolist()
            case "masked" | "causal" | "pairs":
                keep = random.random(length) < (1.0 if kind == "causal" else 0.4)
                keep[1] = True
                row["labels"] = np.where(keep, ids, -100).tolist()
                if kind == "pairs":
                    row["next_sentence_label"] = int(random.integers(2))
            case _:
                start = int(random.integers(0, length - 2))
                row |= {"start_positions": start, "end_positions": start + 1}
        found.append(row)
    return found


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad ids on the right with 0, labels of tokens with -100."""
    width = max(len(row["input_ids"]) for row in batch)

    def padded(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([each + [fill] * (width - len(each)) for each in values])

    ids = [row["input_ids"] for row in batch]
    out = {
        "input_ids": padded(ids, 0),
        "attention_mask": padded([[1] * len(each) for each in ids], 0),
    }
    for name in ("labels", "start_positions", "end_positions", "next_sentence_label"):
        if name in batch[0]:
            values = [row[name] for row in batch]
            if isinstance(values[0], list) and isinstance(values[0][0], int):
                most = max(map(len, values))
                out[name] = torch.tensor([each + [-100] * (most - len(each)) for each in values])
            else:
                out[name] = torch.tensor(values)
    return out


class Watching(TrainerCallback):
    """Writes down what it is told."""

    def __init__(self, reads_weights: bool = True) -> None:
        self.events: list[tuple[str, int, float]] = []
        self.reads_weights = reads_weights


def _watch(event: str) -> Any:
    def told(self: Watching, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.events.append((event, state.global_step, round(float(state.epoch or 0.0), 6)))

    return told


for _name in [each for each in dir(TrainerCallback) if each.startswith("on_")]:
    setattr(Watching, _name, _watch(_name))


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Return arguments for a short training on the CPU."""
    values: dict[str, Any] = {
        "output_dir": str(folder), "per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 1e-3,
        "weight_decay": 0.01, "logging_steps": 1, "save_strategy": "no", "report_to": [], "use_cpu": True,
        "disable_tqdm": True, "dataloader_pin_memory": False, "seed": 5, "warmup_steps": 2,
    }  # fmt: skip
    return TrainingArguments(**{**values, **changes})


def trainer(cls: Any, network: Any, kind: str, args: TrainingArguments, seed: int, **more: Any) -> Any:
    """Return a Trainer of a class that prints nothing."""
    more.setdefault("train_dataset", rows(kind, seed))
    more.setdefault("eval_dataset", rows(kind, seed + 1, 13))
    found = cls(model=network, args=args, data_collator=collate, **more)
    found.remove_callback(transformers.PrinterCallback)
    return found


def weights_of(network: Any) -> dict[str, torch.Tensor]:
    """Return a copy of all weights."""
    return {name: each.detach().clone() for name, each in network.state_dict().items()}
