"""Where to compute and in which precision; what ``auto`` became is said, never assumed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from graftlm.errors import ConfigurationError, MissingResource, clip

# The first process saves, scores and proves while the others wait in a collective, whose default limit is 10 minutes on
# GPUs. A process that dies is noticed by the launcher and needs no limit.
PATIENCE = timedelta(days=1)


def open_accelerator(device: str) -> Accelerator:
    """Return the accelerator for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Precision is ours (an explicit autocast around each forward pass), so accelerate is told to keep out of it.
    """
    chosen = choose_device(device)
    # Left to itself on a machine without an accelerator, accelerate would not see the other CPU processes.
    try:
        accelerator = Accelerator(
            cpu=chosen.type == "cpu",
            mixed_precision="no",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:
        raise _one_device_a_process(str(error)) from None
    if accelerator.device.type != chosen.type:
        raise _one_device_a_process(f"it trains on {accelerator.device.type}")
    if accelerator.distributed_type.value not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise ConfigurationError(
            f"{accelerator.distributed_type.value} was asked for by the launcher; only data parallelism is supported",
            fix="start with torchrun, without FSDP or DeepSpeed settings",
        )
    return accelerator


def choose_device(device: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigurationError: none is called so.
        MissingResource: when this machine has none of that kind.
    """
    _require_known("device", device, ("auto", "cpu", "cuda", "mps"))
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device != "auto" and not available[device]:
        raise MissingResource(
            f"there is no {device} device on this machine",
            where="training.device",
            fix="use training.device=auto",
        )
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    return torch.device(device)


def _require_known(option: str, value: str, known: Sequence[str]) -> None:
    # A recipe has checked it by now; the arguments of Python functions come as they are.
    if value not in known:
        wanted = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
        raise ConfigurationError(
            f"must be {wanted}, got {clip(value)}",
            where=option,
            fix=f"write for instance {option}={known[0]!r}",
        )


def _one_device_a_process(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"this process has already begun to train on another device ({reason})",
        where="training.device",
        fix="train on this device in a fresh process",
    )


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast dtype, or None for plain float32.

    On CPUs without matrix units bf16 is slower than float32 (measured: half the speed), so auto means float32 there.
    """
    _require_known("precision", precision, ("auto", "fp32", "bf16"))
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
