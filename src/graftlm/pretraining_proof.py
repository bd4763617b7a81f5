"""The proof of a pretraining: the saved base model, loaded by a fresh process, must say what the trained one did.

The child is ``python -P -m graftlm.pretraining_proof FOLDER ARCHITECTURE`` with tokens and targets as JSON on its
standard input; it answers with the loss of every target.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from graftlm.errors import ProofFailed
from graftlm.models.base_model import load_config, load_model
from graftlm.models.locating import locate
from graftlm.pretraining_objectives._objective import PretrainingObjective, losses
from graftlm.proof import environment
from graftlm.training.batching import Batch

EXAMPLES = 16
TOLERANCE = 1e-3
"""Of the loss of a target, in nats: far above rounding, far below what anybody would notice."""


def prove(
    model: nn.Module, batch: Batch, objective: PretrainingObjective, folder: Path, architecture: str
) -> dict[str, Any]:
    """Return how well a saved model agrees with the trained one on a batch, for the record of the run.

    Args:
        model: the trained one, on the CPU, in evaluation mode.
        batch: some held-out examples.
        objective: that was trained.
        folder: of the saved model.
        architecture: auto class of transformers that loads it.

    Raises:
        ProofFailed: it cannot be loaded, or says something else.
    """
    own = _losses(model, batch, objective)
    child = subprocess.run(
        [sys.executable, "-P", "-m", "graftlm.pretraining_proof", str(folder), architecture],
        input=json.dumps({"objective": objective.name, "options": objective.dump(), **_plain(batch)}),
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        check=False,
    )
    if child.returncode != 0:
        said = [line for line in child.stderr.splitlines() if line.strip() and "What to do:" not in line]
        reason = said[-1] if said else f"exit code {child.returncode}"
        raise ProofFailed(
            f"the saved model cannot be loaded in a fresh process: {reason[:200]}", where=str(folder)
        )
    again = json.loads(child.stdout)
    differences = [
        np.abs(np.array(again[kind]) - values.numpy()).max(initial=0.0) for kind, values in own.items()
    ]
    largest = float(max(differences))
    if not largest <= TOLERANCE:
        raise ProofFailed(
            f"the reloaded model gives losses that differ by up to {largest:.2g} nats, more than by rounding",
            where=str(folder),
            fix="do not use this model; please report it with the run's recipe.yaml and run.json",
        )
    return {"done": True, "examples": len(batch.rows), "largest_difference": largest}


def _losses(model: nn.Module, batch: Batch, objective: PretrainingObjective) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        outputs, targets = objective.forward(model, batch, None, None)
    return {kind: losses(logits, targets[kind]).double().cpu() for kind, logits in outputs.items()}


def _plain(batch: Batch) -> dict[str, Any]:
    assert batch.targets is not None
    order = None if batch.in_order is None else batch.in_order.tolist()
    inputs = {name: values.tolist() for name, values in batch.inputs.items()}
    judged = None if batch.judged is None else batch.judged.tolist()
    return {"inputs": inputs, "targets": batch.targets.tolist(), "in_order": order, "judged": judged}


def main(arguments: list[str]) -> None:
    """Answer for a saved model."""
    from graftlm.pretraining_recipe import SECTIONS

    folder, architecture = arguments
    given = json.loads(sys.stdin.buffer.read())
    files = locate(folder)
    load_config(files)
    loaded = load_model(files, (architecture,), {}, seed=0)
    if loaded.new_parameters:
        raise ProofFailed(f"{', '.join(loaded.new_parameters[:5])} are not in the folder", where=folder)
    inputs = {name: torch.tensor(values) for name, values in given["inputs"].items()}
    order, judged = (
        None if given[name] is None else torch.tensor(given[name]) for name in ("in_order", "judged")
    )
    targets, real = torch.tensor(given["targets"]), inputs["attention_mask"]
    batch = Batch(inputs, targets, np.arange(len(targets)), real, True, order, judged)
    member: Any = SECTIONS["objective"].get(given["objective"])
    found = _losses(loaded.model, batch, member.model_validate(given["options"]))
    json.dump({kind: values.tolist() for kind, values in found.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
