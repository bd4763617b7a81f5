"""From the memory of the processor to that of a device, without waiting for what the device is doing."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; on the CPU it is the tensor itself.

    CUDA waits for all earlier work before it copies from memory that the system may move, so the tensor is copied into
    pinned memory first. That is torch's own pool of it, which keeps a block until the copy has been made.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
