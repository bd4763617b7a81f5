"""``graft options``."""

from __future__ import annotations


def options(prefix: str = "") -> int:
    """List recipe keys with type, default and meaning.

    Parameters
    ----------
    prefix
        Show only keys that start with this, for instance training, or strategy.full for a member's own keys.
    """
    from rich.console import Console

    from graftlm.errors import ConfigurationError, nearest
    from graftlm.workflows.new import option_lines

    lines = option_lines(prefix)
    if not lines:
        known = [key for key, *_ in option_lines()]
        raise ConfigurationError(
            f"no option starts with {prefix!r}.{nearest(prefix, known)}", fix="graft options"
        )
    console = Console(highlight=False, soft_wrap=True)
    for key, kind, default, text in lines:
        console.print(f"{key}  ({kind}, default {default})", style="bold", markup=False)
        console.print(f"    {text}", markup=False)
    return 0
