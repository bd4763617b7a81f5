"""Words of a command line: a data file, or already the first override."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def split_words(
    source: str | None, overrides: tuple[str, ...], recipe: type[BaseModel] | None = None
) -> tuple[str | None, tuple[str, ...]]:
    """Return data file and overrides: a first word such as training.epochs=3 is no file, unless one has that name."""
    if recipe is None:
        from graftlm.recipe import Recipe as recipe
    key, equals, _ = (source or "").partition("=")
    if source and equals and key.split(".")[0] in recipe.model_fields and not os.path.exists(source):  # noqa: PTH110 - Path.exists fails on names that are too long
        return None, (source, *overrides)
    return source, overrides


def recipe_or_data(
    source: str, overrides: tuple[str, ...], key: str = "data.path"
) -> tuple[Path | None, tuple[str | tuple[str, Any], ...]]:
    """Return recipe file and overrides: a source that ends like a recipe is one, any other is the data of a new one."""
    if source.endswith((".yaml", ".yml")):
        return Path(source), overrides
    return None, (*overrides, (key, source))
