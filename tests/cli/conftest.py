from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.rows import classified_rows, write_csv

from graftlm.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The single JSON object on standard output."""
        return json.loads(self.out)

    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects on standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def graft(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one command in this process."""

    def command(*words: object) -> Outcome:
        capfd.readouterr()
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


@dataclass(frozen=True)
class Made:
    """A finished run, the file it was trained on, and words that make another one like it."""

    run: Path
    data: Path
    words: tuple[str, ...]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Made:
    """A run made by the command line; read only."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_csv(folder / "reviews.csv", classified_rows(80))
    words = (
        f"base={tiny_bert}", "training.epochs=6", "training.learning_rate=5e-3", "training.device=cpu",
        "evaluation.resamples=100", "evaluation.proof=none",
    )  # fmt: skip
    assert run(["finetune", str(data), *words, "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return Made(folder / "run", data, words)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
