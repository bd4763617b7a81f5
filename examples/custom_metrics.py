"""Measure what you like, on predictions made small before they are kept."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, EvalPrediction, TrainingArguments

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


def preprocess_logits_for_metrics(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Keep the class of each text, not the scores of all."""
    return logits.argmax(-1)


def compute_metrics(told: EvalPrediction) -> dict[str, float]:
    """Return the share of texts that are right."""
    return {"accuracy": float((told.predictions == told.label_ids).mean())}


args = TrainingArguments(
    output_dir="runs/custom_metrics",
    num_train_epochs=3,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    report_to="none",
    eval_strategy="epoch",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=rows,
    eval_dataset=rows,
    data_collator=collate,
    compute_metrics=compute_metrics,
    preprocess_logits_for_metrics=preprocess_logits_for_metrics,
)
trainer.train()
print(trainer.evaluate()["eval_accuracy"])
