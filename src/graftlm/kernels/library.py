"""Finds and opens the compiled kernels, and joins them to the threads of torch.

Nothing depends on them: where they are missing, every operation has a version in torch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from graftlm.errors import ConfigurationError
from graftlm.kernels.compilation import fingerprint, library_path

VARIABLE = "GRAFTLM_KERNELS"
_LEVELS = {"AVX512": "avx512", "AVX2": "avx2"}
_OUT_OF_MEMORY = 1
_opening = threading.Lock()


class Library:
    """The kernels of one instruction level.

    Args:
        path: the shared library.
        level: baseline, avx2 or avx512.

    Raises:
        OSError: it cannot be opened, or was built from other sources.
    """

    def __init__(self, path: Path, level: str) -> None:
        self.level = level
        self._handle = ctypes.CDLL(str(path))
        self._handle.graft_fingerprint.restype = ctypes.c_char_p
        if self._handle.graft_fingerprint() != fingerprint().encode():
            raise OSError(f"{path.name} was built from other sources; build it again (make kernels)")
        # A runtime that was loaded before torch, as with LD_PRELOAD, is the one whose threads torch uses.
        team = _address("GOMP_parallel", [ctypes.CDLL(None), *_torch_libraries()])
        self._handle.graft_install(ctypes.c_void_p(team))
        self._handle.graft_set_threads.argtypes = [ctypes.c_int]
        self._handle.graft_set_threads.restype = None
        self._kernels: dict[str, Callable[..., None]] = {}

    def kernel(self, name: str, argument_types: Sequence[Any]) -> Callable[..., None]:
        """Return a kernel as a function that uses as many threads as torch would in the calling thread.

        Args:
            name: a function of the library that returns 0, or 1 when there was no memory.
            argument_types: of ctypes, one for each argument. Nothing is checked beyond them: shapes, types and
                strides are the caller's duty.

        Raises:
            MemoryError: by the returned function, when scratch memory could not be had.
        """
        if name not in self._kernels:
            self._kernels[name] = self._bind(name, argument_types)
        return self._kernels[name]

    def _bind(self, name: str, argument_types: Sequence[Any]) -> Callable[..., None]:
        function = self._handle[name]
        function.argtypes, function.restype = list(argument_types), ctypes.c_int
        set_threads = self._handle.graft_set_threads

        def call(*arguments: Any) -> None:
            set_threads(torch.get_num_threads())
            if function(*arguments) == _OUT_OF_MEMORY:
                raise MemoryError(f"no memory for the scratch buffers of {name}")

        return call


def load() -> Library | None:
    """Return the kernels that suit this machine, or None; `missing_reason` then says why.

    The environment variable GRAFTLM_KERNELS=off switches them off; it is read at every call.

    Raises:
        ConfigurationError: the variable is neither on nor off.
    """
    found = _found()
    return found if isinstance(found, Library) else None


def missing_reason() -> str | None:
    """Return one line that says why there are no kernels, or None when there are."""
    found = _found()
    return found if isinstance(found, str) else None


def said_of_missing(device: torch.device) -> list[str]:
    """Return what a user should be told where kernels would be used and are missing: one line, or none."""
    reason = missing_reason() if device.type == "cpu" else None
    return [f"there are no compiled kernels ({reason}): the same numbers, in more time"] if reason else []


def describe() -> str:
    """Return what a run record says of the kernels: their level, or ``none`` and the reason."""
    found = _found()
    return found.level if isinstance(found, Library) else f"none: {found}"


def _found() -> Library | str:
    wanted = os.environ.get(VARIABLE) or "on"
    if wanted not in ("on", "off"):
        raise ConfigurationError(f"{wanted!r} is neither on nor off", where=VARIABLE, fix="write on or off")
    if wanted == "off":
        return f"switched off by {VARIABLE}"
    with _opening:
        return _open()


@functools.cache
def _open() -> Library | str:
    # torch's own choice, which ATEN_CPU_CAPABILITY lowers; other architectures have the baseline only.
    level = _LEVELS.get(torch.backends.cpu.get_cpu_capability(), "baseline")
    path = library_path(level)
    if not path.is_file():
        return f"{path.name} was not built (no C compiler at installation?)"
    try:
        return Library(path, level)
    except (OSError, AttributeError) as error:  # the latter where a function is missing
        return str(error)


def _torch_libraries() -> list[ctypes.CDLL]:
    """Return torch's own library; a symbol is looked up in it and in what it stands on."""
    folder = Path(torch.__file__).parent / "lib"
    return [ctypes.CDLL(str(path)) for path in sorted(folder.glob("libtorch_cpu.*"))]


def _address(name: str, libraries: Sequence[ctypes.CDLL]) -> int | None:
    """Return the address of the first of the libraries that knows ``name``, or None."""
    for library in libraries:
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value
        except AttributeError:
            continue
    return None
