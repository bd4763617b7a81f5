"""One JSON line for each optimiser step and each validation of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftlm.rundir import write_bytes
from graftlm.training.loop import Step


@dataclass(frozen=True)
class StepLog:
    """The log of a run.

    Args:
        path: its file.
        writes: whether this process writes it; the others say the same.
    """

    path: Path
    writes: bool

    def step(self, step: Step) -> None:
        """Note a step."""
        self.append(
            {
                "step": step.number,
                "epoch": round(step.epoch, 6),
                "loss": step.loss,
                "gradient_norm": step.gradient_norm,
                "learning_rate": step.learning_rate,
                "examples": step.examples,
                "tokens": step.tokens,
                "seconds": round(step.seconds, 6),
            }
        )

    def append(self, record: dict[str, Any]) -> None:
        """Note anything about a ``step``."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")

    def cut(self, step: int, validation_due: bool) -> None:
        """Drop the records after a checkpoint (and a half-written last line); they will be made again.

        Args:
            step: of the checkpoint.
            validation_due: whether it was written before the validation of its step.
        """
        if not self.writes or not self.path.exists():
            return
        kept: list[str] = []
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            again = validation_due and "validation" in record and record["step"] == step
            if record["step"] <= step and not again:
                kept.append(line + "\n")
        write_bytes(self.path, "".join(kept).encode())
