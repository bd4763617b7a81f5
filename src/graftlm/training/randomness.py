"""Every random decision is a function of what it decides, never of how many were made before.

So a resumed run needs no saved generator state, and a caller's own generators are left as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator

import numpy as np
import torch


def generator(*key: int | str) -> np.random.Generator:
    """Return a numpy generator for one purpose, such as ``generator("order", seed, epoch)``."""
    return np.random.Generator(np.random.Philox(key=_digest(key, 16)))


@contextlib.contextmanager
def dropout_seed(device: torch.device, *key: int | str) -> Generator[None]:
    """Seed torch's generators from ``key`` inside the block and give the caller's states back after it."""
    devices = [device] if device.type in ("cuda", "mps") else []
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(_digest(key, 8) >> 1)  # torch takes seeds below 2**63
        yield


def _digest(key: tuple[int | str, ...], size: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=size).digest(), "little")
