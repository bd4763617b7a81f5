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
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a step that is recorded sends numbers, which each replay would read where they were"
        )
    return tensor.pin_memory().to(device, non_blocking=True)


class OnDevices:
    """A tensor that never changes, sent to a device once: what a recorded step reads has to stay where it was.

    Args:
        tensor: on the CPU.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._there: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """Return the tensor on a device."""
        if device not in self._there:
            with torch.inference_mode(False):  # whoever asks first may be in the middle of an evaluation
                self._there[device] = sent(self._tensor, device)
        return self._there[device]
