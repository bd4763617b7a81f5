"""Hide words at random, each time others, to train a masked language model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, TrainingArguments

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
    """Pad the ids of a batch and hide every fourth word; what it draws is the same in a resumed run."""
    width = max(len(row["input_ids"]) for row in batch)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
    hidden = (torch.rand(ids.shape) < 0.25) & (ids > 2)
    labels = ids.masked_fill(~hidden, -100)
    return {"input_ids": ids.masked_fill(hidden, 63), "attention_mask": (ids != 0).long(), "labels": labels}


rows = [{"input_ids": encode(text)} for text in TEXTS]
model = BertForMaskedLM(
    BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
)
args = TrainingArguments(
    output_dir="runs/custom_collator",
    num_train_epochs=3,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    report_to="none",
)
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate)
print(trainer.train().training_loss)
