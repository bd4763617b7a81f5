"""Prediction as a loop over transformers does it: a batch of rows in, what the model says about each out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from data_sets import Rows
from transformers import AutoTokenizer

from graftlm.data.tag_schemes import repaired
from graftlm.data.words import words_of
from graftlm.models.artefact import ArtefactFacts, read_facts
from graftlm.predictor import task_of


@dataclass(frozen=True)
class Loaded:
    """A saved model as plain transformers loads it, and what its card says about reading its outputs."""

    model: Any
    tokenizer: Any
    facts: ArtefactFacts
    task: Any

    def encode(self, *texts: Sequence[Any], **options: Any) -> Any:
        """Return a padded batch, texts cut at the limit of the run."""
        limit = self.facts.max_length_tokens
        return self.tokenizer(
            *texts, **{"truncation": True, **options}, max_length=limit, padding=True, return_tensors="pt"
        )

    def said(self, prediction: Any) -> Any:
        """Return what one of our predictions says, as the functions of `PLAIN` say it."""
        if self.task.answer_kind == "numbers":
            return prediction.number
        return self.task.decision(prediction)


def load_plain(folder: Path) -> Loaded:
    """Load a model folder without any of our classes for models."""
    facts = read_facts(folder)
    task: Any = task_of(facts, folder)
    model = getattr(transformers, facts.architecture).from_pretrained(folder).eval()
    return Loaded(model, AutoTokenizer.from_pretrained(folder), facts, task)


def _logits(loaded: Loaded, rows: Rows) -> torch.Tensor:
    columns = [[row[name] for row in rows] for name in ("text", "text_pair") if name in rows[0]]
    return loaded.model(**loaded.encode(*columns)).logits


def labels(loaded: Loaded, rows: Rows) -> list[str]:
    """Return the label of each row."""
    names = loaded.model.config.id2label
    return [names[each] for each in _logits(loaded, rows).argmax(-1).tolist()]


def label_sets(loaded: Loaded, rows: Rows) -> list[frozenset[str]]:
    """Return the labels of each row whose probability reaches its threshold."""
    names = loaded.model.config.id2label
    reached = _logits(loaded, rows).sigmoid() >= torch.tensor(loaded.facts.rule["thresholds"])
    return [frozenset(names[index] for index in each.nonzero().flatten().tolist()) for each in reached]


def numbers(loaded: Loaded, rows: Rows) -> list[float]:
    """Return the number of each row in the units of the training column."""
    rule = loaded.facts.rule
    return (_logits(loaded, rows)[:, 0].double() * rule["standard_deviation"] + rule["mean"]).tolist()


def tags(loaded: Loaded, rows: Rows) -> list[tuple[str, ...]]:
    """Return the tag of each word: that of its first token."""
    words = [list(words_of(row["tokens"])) for row in rows]
    batch = loaded.encode(words, is_split_into_words=True)
    best = loaded.model(**batch).logits.argmax(-1).tolist()
    names = loaded.model.config.id2label
    given: list[tuple[str, ...]] = []
    for index, chosen in enumerate(best):
        of_token = batch.word_ids(index)
        given.append(
            tuple(
                names[tag]
                for tag, word, before in zip(chosen, of_token, [None, *of_token], strict=False)
                if word is not None and word != before
            )
        )
    return given


def entity_tags(loaded: Loaded, rows: Rows) -> list[tuple[str, ...]]:
    """Return the tag of each word, read as conlleval does: what continues no entity begins one."""
    return [tuple(repaired(each)) for each in tags(loaded, rows)]


def answers(loaded: Loaded, rows: Rows) -> list[tuple[int, int]]:
    """Return first character and last + 1 of the best passage over all windows of each context."""
    task = loaded.task
    batch = loaded.encode(
        [row["question"] for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        stride=task.stride_tokens,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    offsets, row_of = batch.pop("offset_mapping").tolist(), batch.pop("overflow_to_sample_mapping").tolist()
    outputs = loaded.model(**batch)
    best: dict[int, tuple[float, int, int]] = {}
    for window, row in enumerate(row_of):
        inside = torch.tensor([part == 1 for part in batch.sequence_ids(window)])
        allowed = (inside[:, None] & inside).triu().tril(task.max_answer_tokens - 1)
        sums = outputs.start_logits[window][:, None] + outputs.end_logits[window]
        value, place = sums.masked_fill(~allowed, -torch.inf).flatten().max(0)
        start, end = divmod(int(place), len(inside))
        found = (float(value), offsets[window][start][0], offsets[window][end][1])
        best[row] = max(best.get(row, found), found)
    return [best[row][1:] for row in range(len(rows))]


def texts(loaded: Loaded, rows: Rows) -> list[str]:
    """Return what an encoder-decoder writes for each source."""
    batch = loaded.encode([loaded.task.prefix + row["source"] for row in rows])
    written = loaded.model.generate(**batch)
    return [each.strip() for each in loaded.tokenizer.batch_decode(written, skip_special_tokens=True)]


def replies(loaded: Loaded, rows: Rows) -> list[str]:
    """Return the reply to each conversation, its last message left out."""
    tokenizer = loaded.tokenizer
    batch = tokenizer.apply_chat_template(
        [row["messages"] for row in rows],
        add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    written = loaded.model.generate(**batch)[:, batch["input_ids"].shape[1] :]
    return [each.strip() for each in tokenizer.batch_decode(written, skip_special_tokens=True)]


PLAIN: dict[str, Callable[[Loaded, Rows], Sequence[Any]]] = {
    "labels": labels,
    "label_sets": label_sets,
    "numbers": numbers,
    "tags": tags,
    "spans": entity_tags,
    "answers": answers,
    "texts": texts,
    "replies": replies,
}
"""Kind of answer -> a function that answers a batch of rows."""
