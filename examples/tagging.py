"""Tag the words of texts."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForTokenClassification, TrainingArguments

from graftlm import Trainer  # the stock script says: from transformers import Trainer

SENTENCES = ["Anna lives in Paris", "Tom flew to Rome", "Emma works in Oslo and Paris"]
TAGS = {"Anna": 1, "Tom": 1, "Emma": 1, "Paris": 2, "Rome": 2, "Oslo": 2}
words = {
    word: 3 + number
    for number, word in enumerate(sorted({each for text in SENTENCES for each in text.split()}))
}


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad ids with 0 and tags with -100, which no loss counts."""
    width = max(len(row["input_ids"]) for row in batch)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
    tags = torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in batch])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": tags}


rows = [
    {
        "input_ids": [words[word] for word in text.split()],
        "labels": [TAGS.get(word, 0) for word in text.split()],
    }
    for text in SENTENCES
]
model = BertForTokenClassification(
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=3,
    )
)
args = TrainingArguments(
    output_dir="runs/tagging",
    num_train_epochs=3,
    per_device_train_batch_size=2,
    learning_rate=1e-3,
    report_to="none",
)
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate)
trainer.train()
print(trainer.predict(rows).predictions.argmax(-1))
