"""Batches of sequences and their random bits, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graftlm.kernels import example_keys, site_bases, token_keys


def bases_of(
    seed: int, lengths: Sequence[int], *, step: int = 1, rows: Sequence[int] | None = None, site: int = 0
) -> Tensor:
    """Return int32 [tokens]."""
    examples = example_keys(seed, step, range(len(lengths)) if rows is None else rows)
    return site_bases(token_keys(examples, lengths), site)


def starts_of(lengths: Sequence[int]) -> Tensor:
    """Return int64 [sequences + 1]."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
