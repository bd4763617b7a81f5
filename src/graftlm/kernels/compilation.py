"""Compiles `source/*.c` into one shared library for each instruction level, beside this file.

Used by the build of the package (`hatch_build.py`) and by `make kernels`, so it needs nothing but Python and a
C compiler, and is run by its path: no torch is loaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "source"

# -ffast-math is never used: linked into a shared library it switches subnormal numbers off for the whole process, and
# it lets the compiler assume that nothing is NaN. No contraction into fused products: an optimiser must give torch's
# bits, on every level.
_FLAGS = ["-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
_EXACT = ["-ffp-contract=off"]
# Fused products make the exponential function faster, and matrix products twice as fast. The pragmas of OpenMP say
# which sums and maxima may be taken in several lanes; no runtime comes with them.
_FREER = {name: ["-ffp-contract=fast", "-fopenmp-simd"] for name in ("attention.c", "gelu.c")}
# Exactly the features that torch has checked when it names its level (`torch.backends.cpu.get_cpu_capability()`).
_X86_LEVELS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [
        *("-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"),
        "-mprefer-vector-width=512",
    ],
}


class CompilationFailed(Exception):
    """There is no C compiler, or it did not accept the sources; the message is one line."""


def library_path(level: str) -> Path:
    """Return where the library of an instruction level lies: baseline, avx2 or avx512."""
    return FOLDER / f"_kernels_{level}.so"


def fingerprint() -> str:
    """Return a hash of the sources and of the way they are compiled; a library carries that of its build."""
    digest = hashlib.sha256()
    for file in [*sorted(SOURCE.iterdir()), Path(__file__)]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def compile_kernels(compiler: str | None = None) -> list[Path]:
    """Build the libraries of this machine's architecture, unless they are up to date.

    Args:
        compiler: the command, with options if need be; else that of the variable CC, else the first of cc, gcc, clang.

    Returns:
        The libraries, all of them.

    Raises:
        CompilationFailed: no compiler, or one that failed. What was there before is left alone.
    """
    levels = _X86_LEVELS if platform.machine().lower() in ("x86_64", "amd64") else {"baseline": []}
    mark = fingerprint()
    targets = [library_path(level) for level in levels]
    if all(target.is_file() and mark.encode() in target.read_bytes() for target in targets):
        return targets
    command = shlex.split(compiler or os.environ.get("CC", "")) or _first_compiler()
    try:
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".compiling-") as folder:
            built = [_link(command, level, options, mark, Path(folder)) for level, options in levels.items()]
            # Moved, not overwritten: another process may be running the old one.
            for file, target in zip(built, targets, strict=True):
                file.replace(target)
    except OSError as error:
        raise CompilationFailed(f"{error.filename}: {error.strerror}") from error
    return targets


def _first_compiler() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise CompilationFailed("no C compiler (cc, gcc or clang) was found")


def _link(command: list[str], level: str, options: list[str], mark: str, folder: Path) -> Path:
    objects: list[Path] = []
    for source in sorted(SOURCE.glob("*.c")):
        target = folder / f"{source.stem}_{level}.o"
        arithmetic = _FREER.get(source.name, _EXACT)
        definition = f'-DGRAFT_FINGERPRINT="{mark}"'
        _call([*command, *_FLAGS, *arithmetic, *options, definition, "-c", str(source), "-o", str(target)])
        objects.append(target)
    library = folder / library_path(level).name
    _call([*command, "-shared", *map(str, objects), "-o", str(library), "-lm"])
    return library


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise CompilationFailed(f"{command[0]} ended with {done.returncode}: {said.strip()}")


if __name__ == "__main__":
    try:
        for library in compile_kernels():
            print(library)
    except CompilationFailed as failure:
        print(f"kernels were not compiled: {failure}", file=sys.stderr)
        sys.exit(3)
