"""The compiled kernels of each level this processor has; without them the tests of the kernels are skipped, aloud."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graftlm.kernels import library
from graftlm.kernels.compilation import library_path
from graftlm.kernels.library import Library

LEVELS = ["baseline", "avx2", "avx512"]


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Computes with the library of one level for the length of a test, which may change the number of threads."""
    best = {"AVX512": 2, "AVX2": 1}.get(torch.backends.cpu.get_cpu_capability(), 0)
    if LEVELS.index(request.param) > best:
        pytest.skip(f"this processor has no {request.param}")
    if reason := library.missing_reason():
        pytest.skip(f"no compiled kernels: {reason}")
    opened = Library(library_path(request.param), request.param)
    monkeypatch.setattr(library, "_open", lambda: opened)
    yield opened
    torch.set_num_threads(1)
