"""Mark the answer to a question in a text."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForQuestionAnswering, TrainingArguments

from graftlm import Trainer  # the stock script says: from transformers import Trainer

QUESTIONS = [("who won", "we think that Anna won", 4), ("who lost", "it was Tom who lost", 3)]
words = {
    word: 3 + number
    for number, word in enumerate(
        sorted({each for asked, text, _ in QUESTIONS for each in f"{asked} {text}".split()})
    )
}


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad the ids of a batch; where an answer starts and ends is a token of each."""
    width = max(len(row["input_ids"]) for row in batch)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
    at = torch.tensor([row["answer"] for row in batch])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "start_positions": at, "end_positions": at}


rows: list[dict[str, Any]] = []
for asked, text, answer in QUESTIONS:
    ids = [1, *(words[word] for word in asked.split()), 2, *(words[word] for word in text.split()), 2]
    rows.append({"input_ids": ids, "answer": len(asked.split()) + 1 + answer})
model = BertForQuestionAnswering(
    BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
)
args = TrainingArguments(
    output_dir="runs/question_answering",
    num_train_epochs=3,
    per_device_train_batch_size=2,
    learning_rate=1e-3,
    report_to="none",
    remove_unused_columns=False,
)
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate)
trainer.train()
starts, ends = trainer.predict(rows).predictions
print(starts.argmax(-1), ends.argmax(-1))
