"""Memory that does not suffice is something a user can do something about, not a traceback."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator

import torch
from torch import nn

from graftlm.errors import MissingResource, clip

# CUDA has an error class of its own; the CPU's allocator and that of MPS raise plain RuntimeErrors.
_SAID = re.compile(r"out of memory|not enough memory|can't allocate memory")

SMALLER_STEPS = (
    "a smaller training.micro_batch or training.gradient_checkpointing=true change no number: write them into the "
    "recipe.yaml of the run and resume it, or start again; or cut long texts with a smaller task.max_length_tokens"
)
SMALLER_BATCHES = (
    "a smaller evaluation.batch_tokens (in Python batch_tokens) needs less, and so does a smaller "
    "task.max_length_tokens when training"
)
SMALLER_MODEL = "choose a smaller base model or another training.device, or free memory that others use"


@contextlib.contextmanager
def memory_for(what: str, fix: str) -> Generator[None]:
    """Turn running out of memory inside the block, on any device, into a `MissingResource`.

    Args:
        what: the work that needs the memory, with its size.
        fix: how to need less.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or _SAID.search(str(error))
        ):
            raise
        raise MissingResource(
            f"there is not enough memory: {clip(str(error) or type(error).__name__, 200)}",
            where=what,
            fix=fix,
        ) from None


def place(model: nn.Module, device: torch.device) -> None:
    """Move a model to the device it is to work on.

    Raises:
        MissingResource: it does not fit.
    """
    with memory_for(f"moving the model to {device}", SMALLER_MODEL):
        model.to(device)
