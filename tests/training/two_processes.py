"""Run by torchrun: train a tiny network on two ranks and write what happened (see test_two_processes.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tests.training.networks import network, plan, random_examples

from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.strategies.full import Full
from graftlm.training.devices import open_accelerator
from graftlm.training.evaluation import predict_outputs
from graftlm.training.loop import fit
from graftlm.training.optimisation import build_optimizer


def main(output: Path, seed: int) -> None:
    """Train six steps, predict, write losses, norms and logits (rank 0)."""
    torch.set_num_threads(1)
    accelerator = open_accelerator("cpu")
    # 33 rows in steps of 16: the third step has one row, so that one of two ranks has none.
    examples, model = random_examples(seed, count=33), network(seed)
    optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
    loss = CrossEntropy(class_weights="balanced").bind(examples.targets, ["0", "1", "2"])
    wrapped = accelerator.prepare(model) if accelerator.num_processes > 1 else model
    steps = list(fit(wrapped, examples, loss, optimizer, plan(micro_batch=3), accelerator))
    ranks = (accelerator.process_index, accelerator.num_processes)
    logits = predict_outputs(model, examples, 40, accelerator.device, rank_of=ranks)
    if accelerator.is_main_process:
        result = {
            "losses": [step.loss for step in steps],
            "norms": [step.gradient_norm for step in steps],
            "logits": [each.tolist() for each in logits],
            "processes": accelerator.num_processes,
            "patience_seconds": _patience_seconds() if accelerator.num_processes > 1 else None,
        }
        output.write_text(json.dumps(result))


def _patience_seconds() -> float:
    """How long the process group really waits; torch has no public name for it."""
    group = torch.distributed.group.WORLD
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
