"""The words that the benchmarks have in common."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path


def common_arguments(
    description: str | None, data: Collection[str], seeds: list[int] | None, results: Path
) -> argparse.ArgumentParser:
    """Return a parser of which data, which seeds (None where these depend on the data), and where the runs lie."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--data", choices=list(data), nargs="*", default=list(data))
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=seeds, help="default: those behind the tables of README.md"
    )
    parser.add_argument("--output", type=Path, default=results)
    parser.add_argument(
        "--shared-data", help="folder of the data sets; default: GRAFTLM_SHARED_DATA or ../shared/data"
    )
    parser.add_argument(
        "--table", action="store_true", help="show what is on file here and in README.md, train nothing"
    )
    return parser


def add_parallel_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a benchmark needs whose parts run side by side or elsewhere."""
    parser.add_argument(
        "--add", type=Path, nargs="*", default=[], help="result files whose runs are taken in as well"
    )
    parser.add_argument("--threads", type=int, help="threads of torch; default: torch's own choice")
