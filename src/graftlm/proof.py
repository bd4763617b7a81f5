"""The proof of a run: the saved model, loaded by a fresh process, must decide as the trained one did.

The child is ``python -P -m graftlm.proof MODEL_FOLDER OUTPUT BATCH_SIZE DEVICE PRECISION`` with the rows as JSON on its
standard input, so that no text is written to disk; -P, lest a file in the user's folder is taken for a library.
Batches and precision are those of the recorded evaluation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftlm.data.dataset import Split
from graftlm.errors import ProofFailed
from graftlm.predictor import Predictor

# What launchers of several processes set: a child that inherited it would wait for the others for ever.
_LAUNCHER = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "GROUP_",
    "ROLE_",
    "MASTER_",
    "TORCHELASTIC_",
    "ACCELERATE_",
    "FSDP_",
)

# Two logits closer than this may change order by rounding alone.
MARGIN = 1e-5
# Relative to the largest logit: far above rounding, far below what changes a probability that anybody reads.
TOLERANCE = 1e-3


def prove(
    model_folder: Path,
    split: Split,
    logits: NDArray[np.float32],
    batch_size: int,
    device: str,
    precision: str,
) -> float:
    """Reload the model in a fresh process, predict ``split`` again and compare with ``logits`` [rows, labels].

    Returns:
        The largest absolute difference of a logit.

    Raises:
        ProofFailed: when a decision differs although its margin exceeded 1e-5, or the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="graftlm-proof-") as scratch:
        output = Path(scratch) / "logits.npy"
        command = [sys.executable, "-P", "-m", "graftlm.proof", str(model_folder), str(output)]
        child = subprocess.run(
            [*command, str(batch_size), device, precision],
            input=json.dumps({"columns": split.columns, "row_ids": split.row_ids}),
            capture_output=True,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER)},
            check=False,
        )
        if child.returncode != 0 or not output.exists():
            said = [line for line in child.stderr.splitlines() if line.strip() and "What to do:" not in line]
            reason = said[-1] if said else f"exit code {child.returncode}"
            raise ProofFailed(
                f"the saved model cannot be loaded in a fresh process: {reason[:200]}",
                where=str(model_folder),
            )
        again: NDArray[np.float32] = np.load(output, allow_pickle=False)
    return compare(logits, again, split.row_ids, str(model_folder))


def compare(
    before: NDArray[np.float32], after: NDArray[np.float32], row_ids: list[str], where: str = ""
) -> float:
    """Return the largest difference; raise `ProofFailed` where a clear decision changed."""
    if before.shape != after.shape or not np.isfinite(after).all():
        raise ProofFailed(
            f"the reloaded model gives logits of shape {after.shape}, not {before.shape}", where=where
        )
    if before.shape[0] == 0:
        return 0.0
    ordered = np.sort(before, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > MARGIN
    changed = np.flatnonzero(clear & (before.argmax(axis=1) != after.argmax(axis=1)))
    difference = float(np.abs(before - after).max())
    if len(changed):
        rows = ", ".join(row_ids[row] for row in changed[:5])
        raise ProofFailed(
            f"the reloaded model decides {len(changed)} of {len(before)} rows differently "
            f"(largest difference of a logit {difference:.2g}); first rows: {rows}",
            where=where,
            fix="do not use this model; please report it with the run's recipe.yaml and run.json",
        )
    largest = TOLERANCE * max(1.0, float(np.abs(before).max()))
    if difference > largest:
        raise ProofFailed(
            f"the reloaded model's logits differ by up to {difference:.2g}, more than by rounding ({largest:.1g})",
            where=where,
            fix="do not use this model; please report it with the run's recipe.yaml and run.json",
        )
    return difference


def main(arguments: list[str]) -> None:
    """Predict the rows on standard input with a saved model and write the logits."""
    folder, output, batch_size, device, precision = arguments
    rows = json.loads(sys.stdin.buffer.read())
    split = Split("proof", rows["columns"], rows["row_ids"])
    np.save(output, Predictor.open(folder, device, precision).logits(split, int(batch_size)))


if __name__ == "__main__":
    main(sys.argv[1:])
