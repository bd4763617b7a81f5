"""``graft demo``: the whole road on a sample that ships with the project."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from graftlm.progress import Progress
from graftlm.recipe import Recipe, load_recipe
from graftlm.run import Run
from graftlm.workflows.finetune import finetune


def sample_path() -> Path:
    """Return the CSV file of customer messages that ships with the project (columns id, text, intent)."""
    return Path(str(files("graftlm.data.samples") / "support_messages" / "messages.csv"))


def demo_recipe() -> Recipe:
    """Return the recipe of the demo: all defaults, on the sample, with the bundled encoder."""
    return load_recipe(overrides={"data.path": str(sample_path())})


def demo(run_directory: Path | None = None, progress: Progress | None = None) -> Run:
    """Fine-tune the bundled encoder on the sample messages and return the run."""
    return finetune(demo_recipe(), None, run_directory, progress)
