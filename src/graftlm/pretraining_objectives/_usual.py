"""The objective of a base model where the recipe names none."""

from __future__ import annotations

from pathlib import Path

from graftlm.models.architecture_sizes import is_new
from graftlm.models.architectures import stored_config
from graftlm.models.base_model import load_config
from graftlm.models.families import usual_objective
from graftlm.models.locating import locate


def usual_for(base: str) -> str | None:
    """Return the name of the objective that the configuration of a base tells; None for a hub id, which is not asked.

    Args:
        base: an architecture, a configuration file, a folder, ``bundled:<name>`` or a hub id.

    Raises:
        ModelError: there is no such bundled model, or the configuration is of no language model.
    """
    if is_new(base):
        return usual_objective(stored_config(base))
    here = base.startswith("bundled:") or Path(base).expanduser().is_dir()
    return usual_objective(load_config(locate(base))) if here else None
