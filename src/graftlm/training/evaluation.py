"""Outputs for a whole split, in the order of its examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from graftlm.data.features import Outputs
from graftlm.models.exported.network import ExportedNetwork
from graftlm.training.batching import Batch, Examples, prediction_batches
from graftlm.training.memory import SMALLER_BATCHES, memory_for
from graftlm.training.outputs import forward
from graftlm.training.writing import write


def predict_outputs(
    model: PreTrainedModel | ExportedNetwork,
    examples: Examples,
    batch_tokens: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
    on_batch: Callable[[int], None] = lambda examples: None,
    rank_of: tuple[int, int] = (0, 1),
) -> Outputs:
    """Return what the model says about every example, entry i for example i; padding is cut away.

    Batches hold examples of similar length: rows times the longest, with what may be written, is at most
    ``batch_tokens``, but for a batch of one. ``on_batch`` is told how many examples each batch had; what it raises
    stops the prediction. With ``rank_of=(rank, ranks)`` each rank computes its share and all get the whole.

    Raises:
        MissingResource: the memory does not suffice.
    """
    model.eval()
    own: list[tuple[int, NDArray[np.float32]]] = []
    written = _most_written(model) if examples.written else 0
    batches = list(prediction_batches(examples.lengths + written, batch_tokens))
    with torch.inference_mode():
        for rows in batches[rank_of[0] :: rank_of[1]]:
            with memory_for(
                f"prediction, batch of {len(rows)} x {examples.lengths[rows].max()} tokens", SMALLER_BATCHES
            ):
                if examples.written:
                    assert isinstance(model, PreTrainedModel)  # what writes is not exported
                    outputs = write(model, examples, rows, device, autocast)
                else:
                    outputs = _read(model, examples.batch(rows, device), autocast)
            own += zip(rows.tolist(), outputs, strict=True)
            on_batch(len(rows))
    parts = gather_object(own) if rank_of[1] > 1 else own
    return [outputs for _, outputs in sorted(parts, key=lambda part: part[0])]


def _most_written(model: nn.Module) -> int:
    settings: Any = model.generation_config
    return settings.max_new_tokens or 0


def _read(model: nn.Module, batch: Batch, autocast: torch.dtype | None) -> Sequence[NDArray[np.float32]]:
    outputs = forward(model, batch, autocast).float().cpu().numpy()
    if outputs.ndim < 3:
        return list(outputs)
    real = batch.inputs["attention_mask"].bool().cpu().numpy()
    return [each[mask] for each, mask in zip(outputs, real, strict=True)]
