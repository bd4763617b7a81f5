"""What the last bits of a run depend on beside its identity. A run that goes on under others says so."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from graftlm.kernels.compilation import fingerprint
from graftlm.kernels.library import load
from graftlm.kernels.masks import FORMULA

# Those of checkpoints that are older than the choice.
_BEFORE = {"execution": "padded", "kernels": "none", "dropout": "formula 1"}


def conditions(
    device: torch.device, padded: bool, precision: str, processes: int, **more: Any
) -> dict[str, Any]:
    """Return what holds now.

    Args:
        device: that computes.
        padded: whether batches are padded.
        precision: of forward passes.
        processes: how many train together.
        more: what holds of this kind of run only.
    """
    library = load()
    return {
        "threads": torch.get_num_threads(),
        "device": device.type,
        "execution": "padded" if padded else "flat",
        "precision": precision,
        "processes": processes,
        "kernels": "none" if library is None else f"{library.level} {fingerprint()[:8]}",
        "dropout": f"formula {FORMULA}",
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
        **more,
    }


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each condition that is another than that of a checkpoint."""
    then = _BEFORE | dict(before)
    return [
        f"{name} was {then[name]}, now {value}: the run continues, but not bit for bit"
        for name, value in now.items()
        if then.get(name, value) != value
    ]
