"""``graft demo``: the whole road on a sample that ships with the project."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from graftlm.progress import Progress
from graftlm.recipe import Recipe, load_recipe
from graftlm.run import Run
from graftlm.workflows.finetune import finetune

BASE = "bundled:english-encoder"
"""Ships with the project, so that nothing needs to be fetched."""
# The defaults would take 20 passes over so few rows.
DEMO_EPOCHS = 8


def sample_path() -> Path:
    """Return the CSV file of customer messages that ships with the project (columns id, text, intent)."""
    return Path(str(files("graftlm.data.samples") / "support_messages" / "messages.csv"))


def demo_recipe() -> Recipe:
    """Return the recipe of the demo: the sample and our own small encoder, with passes of its own."""
    return load_recipe(
        overrides={"base": BASE, "data.path": str(sample_path()), "training.epochs": DEMO_EPOCHS}
    )


def demo(run_directory: Path | None = None, progress: Progress | None = None) -> Run:
    """Fine-tune the bundled encoder on the sample messages and return the run."""
    return finetune(demo_recipe(), None, run_directory, progress)
