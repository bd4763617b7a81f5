"""Memory does not grow with the text: measured as the benchmark does, on less."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.mark.slow
def test_sixty_megabytes_take_no_more_memory_than_fifteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    benchmark = importlib.import_module("corpus_memory")
    little, much = (benchmark.measure(gigabytes, ["exact"])["exact"] for gigabytes in (0.015, 0.06))
    print(little, much)
    assert not much["torch"]
    assert 0.055e9 < sum(much["facts"][part]["bytes"] for part in ("train", "held_out")) < 0.06e9
    assert much["facts"]["exact_duplicates"] > 4 * little["facts"]["exact_duplicates"] > 0
    assert much["peak_mib"] < 200
    assert much["peak_mib"] - little["peak_mib"] < 24  # less than the text that was added
    for each in much[
        "passes"
    ].values():  # some tens of bytes an example of 126 tokens, and 200 a sentence at once
        assert each["peak_mib"] < 160
