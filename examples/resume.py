"""Go on from the last checkpoint: the weights are those of a training without a break, bit for bit."""

from __future__ import annotations

import shutil
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

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
args = TrainingArguments(
    output_dir="runs/resume",
    num_train_epochs=3,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    report_to="none",
    save_strategy="steps",
    save_steps=2,
    save_total_limit=2,
    max_steps=4,
)
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate)
trainer.train()
whole = {name: weight.clone() for name, weight in model.state_dict().items()}
shutil.rmtree("runs/resume/checkpoint-4")  # as if it had been interrupted before
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
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate)
trainer.train(resume_from_checkpoint=True)
print(all(torch.equal(weight, whole[name]) for name, weight in model.state_dict().items()))
