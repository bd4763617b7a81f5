"""``graft push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def push(
    run: Path,
    name: str,
    *,
    public: Annotated[bool, Parameter(negative="")] = False,
    revision: str | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Upload the model of a finished run to the Hugging Face hub, with its card, in one commit; private unless asked.

    Interrupted, nothing is visible; pushed again, only what is missing is sent.

    Parameters
    ----------
    run
        A run directory.
    name
        The repository, org/name; made if there is none.
    public
        Everybody may see and download it.
    revision
        The branch to push to, made if there is none; by default main.
    quiet
        No progress, only the address.
    """
    import contextlib

    from graftlm.reports.display import Display
    from graftlm.workflows.push import push as upload

    with contextlib.ExitStack() as stack:
        progress = None if quiet else stack.enter_context(Display())
        published = upload(run, name, public, revision, progress)
    if not quiet:
        print(f"{'private' if published.private else 'PUBLIC'}; load it with base={name}@{published.commit}")
    print(published.url)
    return 0
