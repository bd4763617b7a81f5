"""What a model writes about examples, and how probable it finds that and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from graftlm.data.features import IGNORED
from graftlm.training.batching import Examples
from graftlm.training.outputs import forward_where_targets

MOST_LOGITS = 2**27
"""Rows x tokens x vocabulary of one forward pass that scores texts: half a GiB in float32; one row may have more. Of a
vocabulary of 150,000 a batch of 32 rows of 300 tokens would hold ten times as many at once."""


def write(
    model: PreTrainedModel,
    examples: Examples,
    rows: NDArray[np.int64],
    device: torch.device,
    autocast: torch.dtype | None,
) -> list[NDArray[np.float32]]:
    """Return the outputs of the given examples, see `graftlm.data.writing.WRITTEN_COLUMNS`.

    Texts are written by the model's own generation settings. Probabilities are those of the bare model, without what
    the settings forbid or penalise.
    """
    prompts = examples.prompts_of(rows)
    batch = prompts.batch(np.arange(len(rows)), device)
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        generated: Any = model.generate(**batch.inputs)  # pyright: ignore[reportCallIssue]
    # The decoder of a pair starts with a token of its own, one network repeats the prompt.
    start = 1 if examples.prompts is None else batch.inputs["input_ids"].shape[1]
    texts = [_until_end(ids, model) for ids in generated[:, start:].tolist()]
    own = _log_probabilities(model, prompts.continued(texts), device, autocast)
    columns = [_columns(text, found, 0.0) for text, found in zip(texts, own, strict=True)]
    if examples.targets is None:
        return columns
    wanted = [examples.targets[row] for row in rows]
    given = _log_probabilities(model, examples.take(rows), device, autocast)
    return [
        np.concatenate([each, _columns(target[target != IGNORED].tolist(), found, 1.0)])
        for each, target, found in zip(columns, wanted, given, strict=True)
    ]


def _columns(tokens: Sequence[int], found: NDArray[np.float32], given: float) -> NDArray[np.float32]:
    # An id below 2^24 is exact in float32; no vocabulary is larger.
    return np.column_stack([np.array(tokens, np.float32), found, np.full(len(found), given, np.float32)])


def _until_end(ids: list[int], model: PreTrainedModel) -> list[int]:
    """Return what was written up to and with the end token: what follows fills the batch up."""
    settings: Any = model.generation_config
    ends = settings.eos_token_id
    known = set(ends if isinstance(ends, list) else [ends])
    last = next((at for at, token in enumerate(ids) if token in known), len(ids) - 1)
    return ids[: last + 1]


def _log_probabilities(
    model: PreTrainedModel, examples: Examples, device: torch.device, autocast: torch.dtype | None
) -> list[NDArray[np.float32]]:
    """Return the natural log-probability of every target of every example, in order."""
    assert examples.targets is not None
    # The logits are as wide as the targets, whatever is read before.
    tokens = max(map(len, examples.targets))
    settings: Any = model.config.get_text_config(decoder=True)
    at_once = max(1, MOST_LOGITS // (tokens * settings.vocab_size))
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(examples), at_once):
        some = np.arange(start, min(start + at_once, len(examples)))
        logits, targets = forward_where_targets(model, examples.batch(some, device), autocast)
        there = targets != IGNORED
        counts = [int((examples.targets[row] != IGNORED).sum()) for row in some.tolist()]
        parts = zip(logits[there].split(counts), targets[there].split(counts), strict=True)
        for scores, wanted in parts:  # one at a time: in float32 they are larger
            chosen = scores.float().log_softmax(-1).gather(1, wanted[:, None])
            found.append(chosen.squeeze(1).cpu().numpy())
    return found
