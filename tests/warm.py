"""A `python` that need not load torch again: each process is forked from one that has.

Much of what is tested must happen in a process of its own: one that is killed, or one that has nothing in memory of
what it reads. Loading torch and transformers takes such a process longer than all the rest. So a server loads them
once, and nothing of ours, and is forked. The fixture `warm_python` of conftest.py stands for `sys.executable`: it
takes ``-m MODULE`` or ``-c CODE`` and has the streams, the folder, the environment and the exit code of what it runs.

What depends on a cold start (what is loaded when, sets in another order) needs `sys.executable`. Standard library only
at the top: what stands for a process starts in 20 ms.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

# What a training, a prediction and a proof load of others.
LIBRARIES = (
    "accelerate", "cyclopts", "huggingface_hub", "peft", "pydantic.main", "pydantic.type_adapter", "rich.console",
    "safetensors.torch", "scipy.optimize", "torch.distributed.tensor", "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
)  # fmt: skip
# Read when the libraries are loaded: what is forked cannot change them.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
_MOST_BYTES = 1 << 17


class Server:
    """The process that others are forked from; it ends with the one that started it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        folder = Path(self._folder.name)
        self.address, self.python = str(folder / "server"), str(folder / "python")
        stand_in = shlex.join([sys.executable, "-I", "-S", __file__, "run", self.address])
        Path(self.python).write_text(f'#!/bin/sh\nexec {stand_in} "$@"\n')
        Path(self.python).chmod(0o755)
        # A session of its own: what interrupts the tests ends them, and they end this.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "serve", self.address, *LIBRARIES], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, cwd=folder, env={**os.environ, **ENVIRONMENT}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        threads = self._process.stdout.readline()
        assert threads == b"1\n", "only a process with one thread can be forked at any moment"

    def end(self) -> None:
        """End the server; what was forked from it goes on."""
        self._process.communicate()
        self._folder.cleanup()


class Forked:
    """A process forked from the server at an address; its arguments are those of `python`."""

    def __init__(
        self, address: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]
    ) -> None:
        self._code: int | None = None
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.connect(address)
        told = json.dumps([arguments, folder, environment]).encode()
        assert len(told) < _MOST_BYTES
        socket.send_fds(self._door, [told], streams)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, minus the number of the signal that ended it."""
        if self._code is None:
            self._door.settimeout(timeout)
            self._code = int(self._door.recv(16))
            self._door.close()
        return self._code

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        ended = self._code is not None or select.select([self._door], [], [], 0)[0]
        return self.wait() if ended else None

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        if self._code is None:
            with contextlib.suppress(BrokenPipeError):
                self._door.send(b"kill")


def _serve(address: str) -> tuple[bytes, list[int]]:
    """Fork for each that asks; return, in what was forked only, what was asked and its streams."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(address)
        door.listen()
        print(len([*Path("/proc/self/task").iterdir()]), flush=True)
        while door in select.select([door, sys.stdin], [], [])[0]:
            with door.accept()[0] as asking:
                if os.fork() == 0:
                    door.close()
                    return _attend(asking)
    sys.exit()


def _attend(asking: socket.socket) -> tuple[bytes, list[int]]:
    """Fork once more and tell who asked how that ends; it is killed when they say so or are gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, streams, _, _ = socket.recv_fds(asking, _MOST_BYTES, 3)
    pid = os.fork()
    if pid == 0:
        return told, streams
    for stream in streams:
        os.close(stream)
    if asking in select.select([asking, os.pidfd_open(pid)], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        asking.send(str(code).encode())
    os._exit(0)


def _become(told: bytes, streams: list[int]) -> None:
    """Be the process that was asked for."""
    arguments, folder, environment = json.loads(told)
    isolated = arguments[0] == "-P"
    kind, what, *rest = arguments[isolated:]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [] if isolated else [folder]
    sys.path[:0] = [*own, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [what if kind == "-m" else kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main: Any = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(what, "<string>", "exec"), main.__dict__)


def _stand_in(address: str, arguments: list[str]) -> None:
    """Start a process, wait, and end as it ended."""
    code = Forked(address, arguments, str(Path.cwd()), dict(os.environ), [0, 1, 2]).wait()
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _stand_in(sys.argv[2], sys.argv[3:])
    for _name in sys.argv[3:]:
        importlib.import_module(_name)
    gc.freeze()  # else each process copied every page at its end, in search of garbage
    _become(*_serve(sys.argv[2]))
