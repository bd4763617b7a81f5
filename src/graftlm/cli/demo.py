"""``graft demo``."""

from __future__ import annotations

import time
from pathlib import Path


def demo(run_dir: Path | None = None) -> int:
    """Fine-tune the bundled encoder on sample customer messages: the whole road in under two minutes.

    Parameters
    ----------
    run_dir
        The run directory to create; by default one under runs/.
    """
    began = time.monotonic()
    from graftlm.cli.results import print_result
    from graftlm.reports.display import Display
    from graftlm.reports.terminal import Terminal
    from graftlm.workflows.demo import demo as show
    from graftlm.workflows.demo import sample_path

    with Display() as progress:
        run = show(run_dir, progress)
    print_result(run, as_json=False, quiet=False)
    console = Terminal()
    console.print(f"everything together: {time.monotonic() - began:.0f} s\n\nTry next:")
    console.print(f"  graft predict {run.path}")
    console.print(f"  graft check {sample_path()}")
    console.print("  graft finetune YOUR_FILE.csv")
    return 0
