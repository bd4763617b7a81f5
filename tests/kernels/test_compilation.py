from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graftlm.kernels import compilation
from graftlm.kernels.compilation import CompilationFailed, compile_kernels, fingerprint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Libraries are built here and not beside the source; one level, to save seconds."""
    monkeypatch.setattr(compilation, "FOLDER", tmp_path)
    monkeypatch.setattr(compilation, "_X86_LEVELS", {"baseline": []})
    monkeypatch.delenv("CC", raising=False)
    return tmp_path


@pytest.fixture
def compiler() -> str:
    """The C compiler of this machine."""
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    pytest.skip("no C compiler here")


def test_builds_once_and_again_only_for_other_sources(
    folder: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (built,) = compile_kernels()
    assert [file.name for file in folder.iterdir()] == [built.name]
    function = ctypes.CDLL(str(built)).graft_fingerprint
    function.restype = ctypes.c_char_p
    assert function().decode() == fingerprint()
    monkeypatch.setenv("CC", "false")
    assert compile_kernels() == [built]
    monkeypatch.setattr(compilation, "fingerprint", lambda: "another")
    with pytest.raises(CompilationFailed, match="false ended with 1"):
        compile_kernels()
    assert [file.name for file in folder.iterdir()] == [built.name]


def test_the_compiler_accepts_the_sources_without_a_warning(folder: Path, compiler: str) -> None:
    compile_kernels(f"{compiler} -Wall -Wextra -Wshadow -Wpedantic -Werror")


def test_without_a_compiler_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompilationFailed, match="no C compiler"):
        compile_kernels()
    with pytest.raises(CompilationFailed, match="no-such-compiler: No such file"):
        compile_kernels("no-such-compiler")
    assert list(folder.iterdir()) == []


def test_what_a_compiler_says_is_one_line(
    folder: Path, compiler: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path_factory.mktemp("source")
    (broken / "broken.c").write_text("int f(void) { return g; }\nint h(void) { return i; }\n")
    monkeypatch.setattr(compilation, "SOURCE", broken)
    with pytest.raises(CompilationFailed, match=r"broken\.c:1.*error") as failure:
        compile_kernels()
    assert "\n" not in str(failure.value)


def test_the_build_needs_no_package(compiler: str) -> None:
    """The build of the package runs where there is no torch."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); assert not {'torch', 'graftlm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, compilation.__file__], check=True)
