"""One forward pass: what comes out of a model, whatever its head calls it."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn

from graftlm.data.features import IGNORED
from graftlm.models.flat.execution import is_flat, laid_flat
from graftlm.models.flat.layout import Layout
from graftlm.training.batching import Batch


def forward(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    dropout_keys: NDArray[np.uint64] | None = None,
) -> Tensor:
    """Return the outputs [examples, outputs] or [examples, tokens, outputs] of a batch.

    A head for answers has two outputs a token: the scores of starting and of ending there. They compete over the
    tokens of an example, so where there is padding they are minus infinity: an objective needs no mask, and no example
    depends on its neighbours. (Heads of transformers let padding compete.)

    A decoder of its own reads the targets of the batch, one place later.

    Args:
        model: of transformers, with a head.
        batch: of examples.
        autocast: dtype of the forward pass, or None for float32.
        dropout_keys: of each example, see `graftlm.kernels.keys.example_keys`; None where nothing is dropped. A
            model that works padded drops by torch's generator instead.
    """
    inputs, bare = batch.inputs, extract_model_from_parallel(model)
    device = inputs["input_ids"].device
    layout = Layout.of(batch.real, device) if is_flat(bare) else None
    with (
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        laid_flat(layout, dropout_keys) if layout is not None else contextlib.nullcontext(),
    ):
        result = model(**inputs, **_decoder_inputs(model, batch))
    if hasattr(result, "start_logits"):
        both = torch.stack([result.start_logits, result.end_logits], dim=-1)
        return both.masked_fill(inputs["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
    return result.logits


def _decoder_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    bare: Any = extract_model_from_parallel(model)
    if batch.targets is None or not batch.written or not bare.config.is_encoder_decoder:
        return {}
    # Begun as the model begins to write. The families' own methods are not asked: mBART's takes the last token of each
    # target to its front, which is right only where that names the language, so not where a text was cut.
    settings = bare.generation_config
    start = settings.decoder_start_token_id
    start = settings.bos_token_id if start is None else start
    begun = torch.cat([torch.full_like(batch.targets[:, :1], start), batch.targets[:, :-1]], dim=1)
    return {"decoder_input_ids": begun.masked_fill(begun == IGNORED, settings.pad_token_id)}
