from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from graftlm import rundir
from graftlm.errors import MissingResource, RunError
from graftlm.rundir import RunDirectory, create_run, write_bytes, write_json

HOLD = """
import sys, time
from pathlib import Path
from graftlm.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("reviews", "reviews"), ("../../etc/passwd", "etc-passwd"), ("a b\n/c", "a-b-c"), ("日本", "run"), ("", "run"),
        ("...", "run"), ("x" * 300, "x" * 60), ("-rf", "rf"), ("a\x00b", "a-b"), ("hub:org/name", "hub-org-name"),
    ],
)  # fmt: skip
def test_odd_names_give_plain_folders(tmp_path: Path, name: str, stem: str) -> None:
    path = create_run(tmp_path / "runs", name).path
    assert path.parent == tmp_path / "runs"
    assert path.name.rsplit("-", 2)[0] == stem


def test_many_at_once_get_different_folders(tmp_path: Path) -> None:
    made: list[Path] = []
    together = threading.Barrier(8)

    def create() -> None:
        together.wait()
        made.extend(create_run(tmp_path, "data").path for _ in range(5))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 40
    assert all(path.is_dir() for path in made)


def test_an_existing_folder_is_never_used_unless_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path, "", tmp_path / "empty").path == tmp_path / "empty"
    assert create_run(tmp_path, "", tmp_path / "a" / "b").path.is_dir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(RunError, match="exists already; a run never overwrites anything") as caught:
            create_run(tmp_path, "", tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
        assert "--resume" in caught.value.fix
    assert (tmp_path / "full" / "precious").read_text() == "x"


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    for exact in (None, tmp_path / "runs" / "mine"):
        with pytest.raises(MissingResource, match="cannot be created") as caught:
            create_run(tmp_path / "runs", "data", exact)
        assert str(tmp_path / "runs") in caught.value.where


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(MissingResource, match="Permission denied"):
            create_run(tmp_path / "runs", "data")
    finally:
        tmp_path.chmod(0o700)


def refuse(number: int) -> Callable[..., None]:
    def failing(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("step", ["mkdir", "replace", "fsync"])
def test_no_permission_and_no_space_are_environment_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_bytes(tmp_path / "a" / "file", b"before")
    if step == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse(13))
        with pytest.raises(MissingResource, match="the run directory cannot be created: Permission denied"):
            create_run(tmp_path / "runs", "data")
    else:
        monkeypatch.setattr(rundir.os, step, refuse(28))
    with pytest.raises(MissingResource, match="cannot write this file") as caught:
        write_bytes(tmp_path / "a" / "file", b"after")
    assert caught.value.exit_code == 3
    assert caught.value.where == str(tmp_path / "a" / "file")
    assert (tmp_path / "a" / "file").read_bytes() == b"before"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_file_is_synced_before_it_is_named_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(rundir.os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(rundir.os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    write_bytes(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"label": "größe"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"label": "größe"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"label": "größe"}


def test_record_keeps_and_removes_entries(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.update_record(state="created", problem="x")
    run.update_record(state="running", problem=None)
    assert run.read_record() == {"format_version": 1, "state": "running"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"state": ', "run.json is damaged"), (b"[1]", "run.json is damaged: it is no JSON object"),
        (b"\xff\xfe", "run.json is damaged"), (b"{}", "format version None; this GraftLM reads 1"),
        (b'{"format_version": 2}', "format version 2; this GraftLM reads 1"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        RunDirectory(tmp_path).read_record()
    assert caught.value.where == str(tmp_path / "run.json")
    with pytest.raises(RunError, match=message):
        RunDirectory(tmp_path).update_record(state="running")
    assert (tmp_path / "run.json").read_bytes() == content


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"this folder is not a run \(it has no run.json\)"):
        RunDirectory(tmp_path).read_record()
    (tmp_path / "reviews-slow").mkdir()
    for name, hint in (
        ("missing", ""),
        ("nowhere/missing", ""),
        ("file", ""),
        ("reviews-slwo", " Did you mean 'reviews-slow'?"),
    ):
        with pytest.raises(RunError) as caught:
            RunDirectory(tmp_path / name).read_record()
        assert caught.value.what == f"there is no run or model folder {str(tmp_path / name)!r}.{hint}"


def test_the_lock_refuses_a_second_process_and_dies_with_the_first(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with (
                pytest.raises(RunError, match="another process is working on this run") as caught,
                run.locked(),
            ):
                raise AssertionError("the lock let us in")
            assert "then resume" in caught.value.fix
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    with run.locked():
        pass
    with run.locked():
        pass


def test_the_lock_is_released_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunDirectory(tmp_path).locked():
        raise KeyError
    with RunDirectory(tmp_path).locked():
        pass


def test_a_run_that_cannot_be_locked_is_an_environment_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir.FileLock, "acquire", refuse(30))
    with (
        pytest.raises(MissingResource, match="cannot lock this run: Read-only"),
        RunDirectory(tmp_path).locked(),
    ):
        raise AssertionError("the lock let us in")
