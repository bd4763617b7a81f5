"""Weights that PyTorch pickled (``pytorch_model.bin``) as safetensors, run as ``python -m`` by `read_apart`.

A pickle is a program. ``weights_only`` runs it on an interpreter that knows tensors and containers and nothing else
(https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only), in a process that may do little.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from graftlm.errors import clip
from graftlm.models.separate_process import close_doors

_REASON = re.compile(r"^(Trying to load|Unsupported|Can only) .*", re.MULTILINE)
"""What ``weights_only`` says about a file that asks for more than tensors."""


def tensors_of(content: object) -> dict[str, Tensor]:
    """Return what a weight file holds, each tensor once: of tied ones, which share memory, the first name is kept.

    transformers ties them again when it loads the folder.

    Raises:
        ValueError: it is no dictionary of names and tensors.
    """
    if not isinstance(content, dict):
        raise ValueError(f"the file holds a {type(content).__name__}, not a dictionary of tensors")
    entries = cast("dict[Any, Any]", content)
    tensors: dict[str, Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"the entry {clip(name)} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.is_quantized:
            raise ValueError(f"the tensor {clip(name)} is sparse or quantised")
        same = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and same in seen:
            continue
        seen.add(same)
        # A copy: part of another's memory is not written.
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return tensors


def main(arguments: list[str]) -> None:
    """Read the first file, write the second."""
    source, output = arguments
    close_doors(Path(source).stat().st_size)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever it likes, and much of what it says is how to be unsafe
        found = _REASON.search(str(error))
        why = f"{type(error).__name__}: {str(error).partition('. ')[0]}"
        sys.exit(found[0] if found else f"it is damaged, or was not written by torch.save ({why})")
    save_file(tensors_of(content), output, metadata={"format": "pt"})


if __name__ == "__main__":
    main(sys.argv[1:])
