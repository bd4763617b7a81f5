"""What every test gets: no network, one thread, a fresh seed, a tiny base model, rows that can be learnt."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.hub_server import TOKEN, Hub, serving
from tests.tiny import tiny_base
from tests.warm import Server

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection but those inside this machine's kernel; the mark `sockets` allows loopback."""
    loopback = request.node.get_closest_marker("sockets") is not None
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded(self: socket.socket, address: object) -> None:
        local = loopback and isinstance(address, tuple) and address[0] in _LOOPBACK
        if self.family != socket.AF_UNIX and not local:
            raise RuntimeError(f"a test tried to connect to {address!r}")
        connect(self, address)

    def guarded_look_up(host: object, *rest: object, **options: object) -> object:
        if not (loopback and host in _LOOPBACK):
            raise RuntimeError(f"a test asked for the address of {host!r}")
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Child processes inherit the limit through the environment."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seed() -> int:
    """Another number in every run, shown when the test fails; GRAFTLM_TEST_SEED=N repeats one."""
    chosen = int(os.environ.get("GRAFTLM_TEST_SEED") or secrets.randbelow(2**31))
    print(f"GRAFTLM_TEST_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT with its tokenizer; read only."""
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny-bert")


@pytest.fixture(scope="session")
def warm_server() -> Iterator[Server | None]:
    """What processes are forked from that need torch (see `tests.warm`); only Linux forks a process that has it."""
    if sys.platform != "linux":
        yield None
        return
    server = Server()
    yield server
    server.end()


@pytest.fixture(scope="session")
def warm_python(warm_server: Server | None) -> str:
    """Stands for `sys.executable` without the seconds in which torch is loaded."""
    return warm_server.python if warm_server else sys.executable


@pytest.fixture
def warm_children(warm_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that this one starts, such as the proof of a run, need not load torch either."""
    monkeypatch.setattr(sys, "executable", warm_python)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A small hub on loopback, for this process and its children; we are logged in. Needs the mark `sockets`."""
    from huggingface_hub import constants

    home = tmp_path / "hub_home"
    with serving() as hub:
        for name, value in {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        # What was read from the environment when the library was imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub
