"""``graft new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from graftlm.errors import MissingResource, RunError


def new(
    source: str | None = None,
    *overrides: str,
    output: Path | None = None,
    pretraining: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a complete recipe with a comment on every key, for a data file or empty.

    Parameters
    ----------
    source
        A data file or folder; its columns are inferred and written down. With --pretraining, where the text is.
    overrides
        Recipe keys, for instance training.epochs=3.
    output
        The file to write; by default standard output. An existing file is never overwritten.
    pretraining
        Write a recipe of `graft pretrain`; by default one of `graft finetune`.
    """
    from graftlm.cli.words import split_words
    from graftlm.opening import open_rows
    from graftlm.pretraining_recipe import PretrainingRecipe, load_pretraining
    from graftlm.recipe import Recipe, load_recipe
    from graftlm.workflows.new import commented, new_recipe

    source, overrides = split_words(source, overrides, PretrainingRecipe if pretraining else Recipe)
    if pretraining:
        text = commented(load_pretraining(None, (("corpus.path", source or "texts"), *overrides)))
    elif source is None:
        text = new_recipe(load_recipe(None, overrides))
    else:
        text = new_recipe(*open_rows(None, (*overrides, ("data.path", source))))
    if output is None:
        print(text, end="")
        return 0
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RunError("this file exists already", where=str(output), fix="choose another name") from None
    except OSError as error:
        raise MissingResource(f"cannot write the recipe: {error.strerror}", where=str(output)) from None
    print(f"{output}: edit it, then run `graft {'pretrain' if pretraining else 'finetune'} {output}`")
    return 0
