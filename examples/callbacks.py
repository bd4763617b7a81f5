"""Stop early, and look at every step."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    TrainerCallback,
    TrainingArguments,
)

from graftlm import Trainer  # the stock script says: from transformers import Trainer

PRAISE = ["a lovely film", "great food and nice staff", "fast delivery", "a good price for a fine hotel"]
BLAME = ["an awful film", "terrible food and rude staff", "late delivery", "a bad price for a dirty hotel"]
TEXTS = PRAISE + BLAME
words = {
    word: 3 + number for number, word in enumerate(sorted({each for text in TEXTS for each in text.split()}))
}


def encode(text: str) -> list[int]:
    """Return the ids of a text, between a first and a last token."""
    return [1, *(words[word] for word in text.split()), 2]


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad the ids of a batch to the longest text."""
    width = max(len(row["input_ids"]) for row in batch)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
    labels = torch.tensor([row["labels"] for row in batch])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


rows = [{"input_ids": encode(text), "labels": int(text in PRAISE)} for text in TEXTS]
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=2,
    )
)


class Losses(TrainerCallback):
    """Keeps the losses. It reads no weights, and says so: steps take less time then."""

    reads_weights = False

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Keep the loss of a record."""
        self.found += [logs["loss"]] if "loss" in logs else []


losses = Losses()
args = TrainingArguments(
    output_dir="runs/callbacks",
    num_train_epochs=3,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    report_to="none",
    logging_steps=1,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    metric_for_best_model="loss",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=rows,
    eval_dataset=rows,
    data_collator=collate,
    callbacks=[losses, EarlyStoppingCallback(2)],
)
trainer.train()
print(losses.found)
