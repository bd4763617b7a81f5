"""Models that write, in plain transformers: rows as tokens with labels, how probable these are, what is written."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from graftlm.data.features import IGNORED
from graftlm.preparation import Prepared
from graftlm.recipe import Recipe

_BATCH = 32


def encoded_texts(tokenizer: Any, recipe: Recipe, prepared: Prepared, name: str) -> Dataset:
    """Return a split as the examples of transformers encode translations; the tokens of conversations are ours.

    Labels of conversations are put where models of transformers want them, at the token itself: they shift them.
    """
    task: Any = recipe.task
    columns: Any = prepared.dataset.splits[name].columns
    if "source" in columns:
        read = tokenizer(columns["source"], truncation=True, max_length=prepared.encoder.max_length_tokens)
        written = tokenizer(text_target=columns["target"], truncation=True, max_length=task.max_target_tokens)
        return Dataset.from_dict({**read, "labels": written["input_ids"]})
    features = prepared.features[name]
    assert features.writing is not None
    ids = features.inputs["input_ids"]
    labels = [[IGNORED, *targets.tolist()[:-1]] for targets in features.writing.targets]
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": labels}
    )


def collator_of_texts(tokenizer: Any, model: Any) -> DataCollatorForSeq2Seq:
    """Return what pads tokens and labels, and begins the decoder where there is one."""
    return DataCollatorForSeq2Seq(tokenizer, model=model if model.config.is_encoder_decoder else None)


def written_records(model: Any, tokenizer: Any, rows: Dataset, prepared: Prepared) -> list[dict[str, Any]]:
    """Return for each test row how probable its labels are, how many these are, and what the model writes."""
    prompts: Any = prepared.features["test"].writing
    lengths: Any = prompts.prompts or [len(ids) for ids in rows["input_ids"]]
    begun = [{"input_ids": ids[:length]} for ids, length in zip(rows["input_ids"], lengths, strict=True)]
    batches: Any = DataLoader(rows, batch_size=_BATCH, collate_fn=collator_of_texts(tokenizer, model))  # pyright: ignore[reportArgumentType]
    side = "right" if model.config.is_encoder_decoder else "left"
    found: list[dict[str, Any]] = []
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            of_labels = _log_probabilities(model, batch)
            asked = begun[len(found) : len(found) + len(of_labels)]
            inputs = tokenizer.pad(asked, padding_side=side, return_tensors="pt")
            ids = model.generate(**inputs)[:, 0 if side == "right" else inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            found += [
                {"text": text.strip(), "log_probability": float(each.sum()), "tokens": len(each)}
                for text, each in zip(texts, of_labels, strict=True)
            ]
    return found


def _log_probabilities(model: Any, batch: Any) -> list[torch.Tensor]:
    """Return the natural log-probability of each label of each row."""
    scores, labels = model(**batch).logits, batch["labels"]
    if not model.config.is_encoder_decoder:
        scores, labels = scores[:, :-1], labels[:, 1:]
    there = labels != IGNORED
    chosen = scores.log_softmax(-1).gather(2, labels.where(there, 0).unsqueeze(2)).squeeze(2)
    return [each[mask] for each, mask in zip(chosen, there, strict=True)]
