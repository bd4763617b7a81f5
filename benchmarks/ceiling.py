"""How much of a training step is matrix products, which nobody here can make faster?

    python benchmarks/ceiling.py

The products of linear layers that some steps of ours compute, forward and back, are written down with their shapes and
strides. Then the steps are taken again, and after each its products alone are computed once more by torch, on other
numbers. Their share of the step is what is left when all else takes no time: a step cannot be faster than by the
inverse of that share on this machine. Networks and rows are those of `timed_rows.py`. Products inside our attention
are no part of the share.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from records import machine, read_runs, run_key, show
from timed_rows import MIXES, NETWORKS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_speed import Ours

from graftlm.rundir import write_json

RESULTS = Path(__file__).parent / "results" / "ceiling.json"
WARM, STEPS = 3, 12
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}


class Products(TorchDispatchMode):
    """Writes down every product that is computed inside, as what computes it again."""

    def __init__(self) -> None:
        super().__init__()
        self.again: list[Callable[[], Any]] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as usual."""
        if func in PRODUCTS:
            self.again.append(Product(func, [(tuple(each.shape), each.stride()) for each in args]))
            *rows, inner = args[-2].shape
            self.operations += 2 * int(np.prod(rows)) * inner * args[-1].shape[-1]
        return func(*args, **(kwargs or {}))


class Product:
    """A product of numbers like those that were there.

    Args:
        function: of torch.
        forms: shape and strides of each factor (and of what is added).
    """

    def __init__(self, function: Any, forms: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        self.function, self.forms = function, forms

    def __call__(self) -> float:
        """Compute it and return the seconds, those for the numbers apart."""
        factors: list[Tensor] = [torch.empty_strided(*form).normal_() for form in self.forms]
        began = time.perf_counter()
        self.function(*factors)
        return time.perf_counter() - began


def measure(network: str, rows: str) -> dict[str, Any]:
    """Return the seconds of every step, of its products alone, and their operations."""
    products: list[Products] = []
    steps = Ours(network, rows, 0.1, "full").steps(1_000)
    for _ in range(WARM + STEPS):
        with Products() as found:
            next(steps)
        products.append(found)
    whole, alone = list[float](), list[float]()
    steps = Ours(network, rows, 0.1, "full").steps(1_000)
    for number in range(WARM + STEPS):
        began = time.perf_counter()
        next(steps)
        seconds = time.perf_counter() - began
        if number >= WARM:
            whole.append(seconds)
            alone.append(sum(again() for again in products[number].again))
    return {
        "step_seconds": whole, "product_seconds": alone, "operations": [each.operations for each in products[WARM:]],
    }  # fmt: skip


def tables(document: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = [
        "| network | rows | threads | ms a step, median | products alone | their share | G operations / s in them |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for run in document["runs"]:
        whole, alone = np.array(run["step_seconds"]), np.array(run["product_seconds"])
        rate = float(np.sum(run["operations"]) / alone.sum()) / 1e9
        lines.append(
            f"| {run['network']} | {run['mix']} | {run['machine']['threads']} | {1000 * np.median(whole):.0f} | "
            f"{1000 * np.median(alone):.0f} | {np.median(alone / whole):.0%} | {rate:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", choices=NETWORKS, nargs="*", default=["minilm-l6"])
    parser.add_argument("--mixes", choices=list(MIXES), nargs="*", default=list(MIXES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="show what is on file, measure nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.utils.logging.set_verbosity_error()
    runs = {run["key"]: run for run in read_runs(chosen.output)}
    for network in [] if chosen.table else chosen.networks:
        for mix in chosen.mixes:
            key = run_key(network=network, mix=mix, threads=chosen.threads)
            found = measure(network, mix)
            runs[key] = {"key": key, "network": network, "mix": mix, **found, "machine": machine()}
            write_json(chosen.output, {"runs": list(runs.values())})
    show("ceiling", tables({"runs": list(runs.values())}), into_page=chosen.output == RESULTS)


if __name__ == "__main__":
    main()
