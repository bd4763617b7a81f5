"""Words of a command line: a data file, or already the first override."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def split_words(source: str | None, overrides: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return data file and overrides: a first word such as training.epochs=3 is no file, unless one has that name."""
    from graftlm.recipe import Recipe

    key, equals, _ = (source or "").partition("=")
    if source and equals and key.split(".")[0] in Recipe.model_fields and not os.path.exists(source):  # noqa: PTH110 - Path.exists fails on names that are too long
        return None, (source, *overrides)
    return source, overrides


def recipe_or_data(
    source: str, overrides: tuple[str, ...]
) -> tuple[Path | None, tuple[str | tuple[str, Any], ...]]:
    """Return recipe file and overrides: a source that ends like a recipe is one, any other is the data of a new one."""
    if source.endswith((".yaml", ".yml")):
        return Path(source), overrides
    return None, (*overrides, ("data.path", source))
