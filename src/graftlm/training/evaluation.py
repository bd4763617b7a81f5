"""Logits of a whole split, in row order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import nn

from graftlm.training.batching import Examples, prediction_batches
from graftlm.training.memory import SMALLER_BATCHES, memory_for


def predict_logits(
    model: nn.Module,
    examples: Examples,
    batch_size: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
    on_batch: Callable[[int], None] = lambda examples: None,
    rank_of: tuple[int, int] = (0, 1),
) -> NDArray[np.float32]:
    """Return the logits of every example, [examples, outputs], row i for example i.

    Batches hold examples of similar length. ``on_batch`` is told how many examples each batch had; what it raises
    stops the prediction. With ``rank_of=(rank, ranks)`` each rank computes its share and all get the whole.

    Raises:
        MissingResource: the memory does not suffice.
    """
    model.eval()
    own: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    batches = list(prediction_batches(examples.lengths, batch_size))
    with torch.inference_mode():
        for rows in batches[rank_of[0] :: rank_of[1]]:
            batch = examples.batch(rows, device)
            with memory_for(f"prediction, batch of {batch.size}", SMALLER_BATCHES):
                if autocast is None:
                    logits = model(**batch.inputs).logits
                else:
                    with torch.autocast(device.type, dtype=autocast):
                        logits = model(**batch.inputs).logits
                own.append((rows, logits.float().cpu().numpy()))
            on_batch(len(rows))
    parts = gather_object(own) if rank_of[1] > 1 else own
    if not parts:
        return np.zeros((0, 0), dtype=np.float32)
    result = np.empty((len(examples), parts[0][1].shape[1]), dtype=np.float32)
    for rows, logits in parts:
        result[rows] = logits
    return result
