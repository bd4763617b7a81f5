"""``graft options``."""

from __future__ import annotations


def options(prefix: str = "") -> int:
    """List recipe keys with type, default and meaning.

    Parameters
    ----------
    prefix
        Show only keys that start with this, for instance training, or strategy.full for a member's own keys.
    """
    from graftlm.errors import ConfigurationError, nearest
    from graftlm.reports.terminal import Terminal
    from graftlm.workflows.new import option_lines

    lines = option_lines(prefix)
    if not lines:
        section = prefix.partition(".")[0]
        known = [key for key, *_ in (*option_lines(), *(option_lines(section) if section else ()))]
        raise ConfigurationError(
            f"no option starts with {prefix!r}.{nearest(prefix, known)}", fix="graft options"
        )
    console = Terminal()
    for key, kind, default, text in lines:
        console.print(f"{key}  ({kind}, default {default})", style="bold")
        console.print(f"    {text}")
    return 0
