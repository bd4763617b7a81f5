"""One forward pass: what comes out of a model, whatever its head calls it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def forward(model: nn.Module, inputs: dict[str, Tensor], autocast: torch.dtype | None) -> Tensor:
    """Return the outputs [examples, outputs] or [examples, tokens, outputs] of a batch.

    A head for answers has two outputs a token: the scores of starting and of ending there. They compete over the
    tokens of an example, so where there is padding they are minus infinity: an objective needs no mask, and no example
    depends on its neighbours. (Heads of transformers let padding compete.)

    Args:
        model: of transformers, with a head.
        inputs: model argument name -> tensor.
        autocast: dtype of the forward pass, or None for float32.
    """
    with torch.autocast(inputs["input_ids"].device.type, dtype=autocast, enabled=autocast is not None):
        result = model(**inputs)
    if hasattr(result, "start_logits"):
        both = torch.stack([result.start_logits, result.end_logits], dim=-1)
        return both.masked_fill(inputs["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
    return result.logits
