from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from graftlm.errors import ConfigurationError
from graftlm.kernels import describe, library, load, missing_reason
from graftlm.kernels.compilation import library_path
from graftlm.kernels.library import Library


def test_one_library_for_the_process(kernels: Library) -> None:
    assert load() is load()
    assert missing_reason() is None and describe() == kernels.level


def test_the_variable_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    assert load() is None
    assert missing_reason() == "switched off by GRAFTLM_KERNELS"
    assert describe() == "none: switched off by GRAFTLM_KERNELS"


def test_the_variable_knows_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", "of")
    with pytest.raises(ConfigurationError, match="'of' is neither on nor off"):
        load()


def test_what_was_not_built_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "library_path", lambda level: tmp_path / f"{level}.so")
    assert "was not built" in str(library._open.__wrapped__())


def test_a_library_of_other_sources_is_not_used(kernels: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "fingerprint", lambda: "another")
    with pytest.raises(OSError, match="built from other sources"):
        Library(library_path(kernels.level), kernels.level)


def test_a_kernel_without_memory_says_so(kernels: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        graft_set_threads = staticmethod(print)

        def __getitem__(self, name: str) -> Any:
            return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)

    monkeypatch.setattr(kernels, "_handle", Refusing())
    with pytest.raises(MemoryError, match="scratch buffers of graft_attention"):
        kernels.kernel("graft_attention", ())()
