"""Foreign weight files are read by a process of their own, which may do little else, and come back as safetensors.

What goes wrong in it (a hostile file, a crash in native code, memory that does not suffice) stays in it. Once its
libraries are loaded it refuses itself connections, further processes and Python's way of writing files, and on Linux
more memory than such a file can need. That is a second lock behind the reader's own; it does not hold off machine code.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from graftlm.errors import ModelError

_KEPT = frozenset({
    "PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
})  # fmt: skip
"""Variables that the process inherits. Tokens and keys of the user are not among them."""
_SETTINGS = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
"""No threads, each of which would reserve memory, no accelerator, and of TensorFlow's messages errors only."""
_REFUSED = ("socket.", "subprocess.", "os.", "shutil.", "pty.", "ctypes.")
_HARMLESS = frozenset({"os.listdir", "os.scandir"})
_MEMORY_OF_FILE, _MEMORY = 4, 2**30
"""The tensors, copies of shared ones and what is written: times the size of the file, and one GiB besides."""


def read_apart(module: str, source: Path, output: Path, what: str, fix: str) -> None:
    """Let ``python -m module SOURCE OUTPUT`` make a safetensors file of a foreign one.

    Args:
        module: calls `close_doors` before it reads.
        source: the foreign file.
        output: the safetensors file.
        what: the source, in words.
        fix: what the user can do where it cannot be read.

    Raises:
        ModelError: the process failed; with the last line that it said.
    """
    environment = {name: value for name, value in os.environ.items() if name in _KEPT}
    child = subprocess.run(
        # -P, lest a file in the user's folder is taken for a library.
        [sys.executable, "-P", "-m", module, str(source.absolute()), str(output.absolute())],
        env={**environment, **_SETTINGS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if child.returncode != 0 or not output.is_file():
        said = [line for line in child.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"the process ended with {child.returncode}"
        raise ModelError(f"{what} cannot be read: {reason[:400]}", where=str(source), fix=fix)


def close_doors(file_size: int) -> None:
    """Refuse this process what no reading of a file needs; there is no way back.

    Args:
        file_size: of what will be read, in bytes.
    """
    with contextlib.suppress(OSError, ValueError):  # other systems count memory in other ways, or not at all
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY_OF_FILE * file_size + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        _, mode, flags = arguments
        writes = bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR))
        if not writes:
            return
    elif not event.startswith(_REFUSED) or event in _HARMLESS:
        return
    raise PermissionError(f"{event} is refused while a foreign file is read")
