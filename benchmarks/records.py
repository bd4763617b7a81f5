"""Finished runs as lines on disk (a benchmark that is started again skips them), and bits as short text."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

README = Path(__file__).parent / "README.md"
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "graftlm")


class Records:
    """One JSON object a line, each with the ``key`` of its run."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.by_key: dict[str, dict[str, Any]] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self.by_key[record["key"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Append one finished run."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.by_key[record["key"]] = record


def read_runs(*files: Path) -> list[dict[str, Any]]:
    """Return the runs of several result files, ``{"runs": [...], ...}``; of runs with one key the first."""
    by_key: dict[str, dict[str, Any]] = {}
    for file in files:
        if file.exists():
            for run in json.loads(file.read_text(encoding="utf-8"))["runs"]:
                by_key.setdefault(run["key"], run)
    return list(by_key.values())


def run_key(**what: Any) -> str:
    """Return the key of a run from everything that decides what it computes."""
    return json.dumps(what, sort_keys=True)


@contextmanager
def stopwatch(digits: int = 1) -> Generator[dict[str, float]]:
    """Fill a mapping with wall and processor seconds of the block (others may share the machine)."""
    seconds: dict[str, float] = {}
    wall, processor = time.perf_counter(), time.process_time()
    yield seconds
    seconds["wall"] = round(time.perf_counter() - wall, digits)
    seconds["processor"] = round(time.process_time() - processor, digits)


def pack(flags: NDArray[np.bool_]) -> str:
    """Return one hexadecimal digit for four flags, the first row first."""
    return np.packbits(flags).tobytes().hex()


def unpack(digits: str, rows: int) -> NDArray[np.bool_]:
    """Return what `pack` was given, [rows]."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8))[:rows].astype(bool)


def machine() -> Mapping[str, Any]:
    """Return hardware, versions and thread count for a result file."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
    }


def show(name: str, table: str, into_page: bool) -> None:
    """Print a table; ``into_page`` also puts it between the marks ``<!-- name -->`` and ``<!-- end -->``."""
    print(table)
    if into_page:
        before, mark, after = README.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
        _, end, rest = after.partition("<!-- end -->")
        README.write_text(f"{before}{mark}{table}\n{end}{rest}", encoding="utf-8")
