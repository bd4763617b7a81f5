"""``graft options``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def options(prefix: str = "", *, pretraining: Annotated[bool, Parameter(negative="")] = False) -> int:
    """List recipe keys with type, default and meaning.

    Parameters
    ----------
    prefix
        Show only keys that start with this, for instance training, or strategy.full for a member's own keys.
    pretraining
        The keys of `graft pretrain`; by default those of `graft finetune`.
    """
    from graftlm.errors import ConfigurationError, nearest
    from graftlm.pretraining_recipe import PRETRAINING
    from graftlm.recipe import FINE_TUNING
    from graftlm.reports.terminal import Terminal
    from graftlm.workflows.new import option_lines

    composition = PRETRAINING if pretraining else FINE_TUNING
    lines = option_lines(prefix, composition)
    if not lines:
        rows = option_lines("", composition)
        if section := prefix.partition(".")[0]:
            rows += option_lines(section, composition)
        raise ConfigurationError(
            f"no option starts with {prefix!r}.{nearest(prefix, [key for key, *_ in rows])}",
            fix="graft options --pretraining" if pretraining else "graft options",
        )
    console = Terminal()
    above = ""
    for key, kind, default, text in lines:
        heading = f"{key}  ({kind}, default {default})"
        if heading != above:
            console.print(heading, style="bold")
        console.print(f"    {text}")
        above = heading
    return 0
