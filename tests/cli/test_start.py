"""Help is quick, and what can be refused without torch is refused without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rows import classified_rows, write_csv

from graftlm.cli.app import VERBS, run

# Each command in turn, in one process; after each: its exit code and what heavy library is loaded by then.
SEVERAL = """
import contextlib, io, json, sys
from graftlm.cli.app import run
heavy = lambda: sorted({"torch", "transformers", "accelerate", "datasets", "pandas"} & set(sys.modules))
for words in json.load(sys.stdin):
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = run(words)
    print(json.dumps([words, code, errors.getvalue(), heavy()]))
"""


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, **options
    )  # type: ignore


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import graftlm, sys; print(dir(graftlm)); print({'torch', 'transformers', 'pydantic'} & set(sys.modules))"
    child = python("-c", code)
    names, loaded = child.stdout.splitlines()
    assert loaded == "set()"
    assert "finetune" in names


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import graftlm

    with pytest.raises(AttributeError, match="module 'graftlm' has no attribute 'fintune'"):
        graftlm.fintune  # noqa: B018
    for name in graftlm.__all__:
        assert getattr(graftlm, name).__name__ == name


def test_refusals_come_before_torch(place: Path) -> None:
    write_csv(place / "good.csv", classified_rows(20))
    (place / "bad.csv").write_text("text,label\na,b\nc\n")
    (place / "bad.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": \n')
    (place / "corpus").mkdir()
    (place / "corpus" / "raw.txt").write_text("One. Two.")
    (place / "corpus" / "wide.txt").write_bytes("One. Two.".encode("utf-16"))
    (place / "mixed").mkdir()
    (place / "mixed" / "a.txt").write_text("One. Two.")
    (place / "mixed" / "b.jsonl").write_text('{"body": "One."}\n')
    (place / "runs" / "done").mkdir(parents=True)
    (place / "runs" / "done" / "run.json").write_text(
        '{"format_version": 1, "state": "finished", "proof": {"done": false}, "training_seconds": 1, "steps": 2}'
    )
    expected = {
        ("--help",): (0, ""),
        ("--version",): (0, ""),
        **{(verb, "--help"): (0, "") for verb in VERBS},
        ("fintune", "good.csv"): (2, "finetune"),
        ("finetune", "--no-such-option"): (2, "--no-such-option"),
        ("finetune", "good.csv", "training.epoch=3"): (2, "training.epochs"),
        ("finetune", "good.csv", "strategy.name=ful"): (2, "'full'"),
        ("finetune", "good.csv", "task.name=clasification"): (2, "no task is called"),
        ("finetune", "good.csv", "task.max_len=3"): (2, "task.max_len: unknown option"),
        ("finetune", "bad.csv"): (2, "bad.csv:3"),
        ("finetune", "bad.jsonl"): (2, "bad.jsonl:2"),
        ("finetune", "none.csv"): (2, "there is no such file"),
        ("finetune", "good.txt"): (2, "good.csv"),
        ("check", "bad.csv"): (2, "bad.csv:3"),
        ("check", "good.csv"): (5, ""),
        ("check", "good.csv", "data.columns.text=txt"): (2, "Did you mean 'text'"),
        ("options", "training"): (0, ""),
        ("predict", "runs/dnoe", "good.csv"): (
            2,
            "there is no run or model folder 'runs/dnoe'. Did you mean 'done'?",
        ),
        ("evaluate", "runs/dnoe", "good.csv"): (2, "Did you mean 'done'?"),
        ("evaluate", "runs/done"): (0, ""),
        ("predict", "runs/done", "none.csv"): (2, "there is no such file"),
        ("predict", "runs/done", "bad.csv"): (2, "bad.csv:3"),
        ("evaluate", "runs/done", "none.csv"): (2, "there is no such file"),
        ("push", "runs/dnoe", "acme/reviews"): (2, "Did you mean 'done'?"),
        ("export", "runs/dnoe", "exported"): (2, "Did you mean 'done'?"),
        ("export", "runs/done", "exported", "--data", "bad.csv"): (2, "bad.csv:3"),
        ("options", "trainin.epochs"): (2, "training.epochs"),
        ("pretrain", "--architectures"): (0, ""),
        ("pretrain", "corpus/raw.txt", "training.epoch=3"): (2, "training.epochs"),
        ("pretrain", "corpus/raw.txt", "base=bert-tinny"): (2, "bert-tiny"),
        ("pretrain", "corpus/raw.txt", "base=mine.json"): (2, "mine.json"),
        ("pretrain", "none.txt"): (2, "none.txt: there is no such file"),
        ("pretrain", "corpus/raw.txt", "evaluation.general_text=none.txt"): (
            2,
            "none.txt: there is no such file",
        ),
        ("pretrain", "good.csv", "corpus.text_column=txt"): (2, "Did you mean 'text'"),
        ("pretrain", "mixed"): (2, "b.jsonl:1: has no column 'text'"),
        ("pretrain", "corpus/wide.txt"): (2, "iconv"),
    }
    child = python("-c", SEVERAL, input=json.dumps(list(expected)), cwd=place)
    assert child.returncode == 0, child.stderr
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(answers) == len(expected)
    for (words, code, errors, heavy), (wanted, message) in zip(answers, expected.values(), strict=True):
        assert (code, heavy) == (wanted, []), (words, errors)
        assert message in errors, words


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_answers_within_half_a_second(words: list[str]) -> None:
    """Processor time, which other processes of a busy machine do not lengthen much; the best of five."""
    best = float("inf")
    for _ in range(5):
        before = os.times()
        child = python("-m", "graftlm", *words)
        after = os.times()
        assert child.returncode == 0
        used = after.children_user + after.children_system - before.children_user - before.children_system
        best = min(best, used)
        if best < 0.5:
            break
    assert best < 0.5
    assert "Usage: graft" in child.stdout


def test_help_names_every_verb_and_explains_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb, line in VERBS.items():
        assert verb in shown
        assert line.split(",")[0][:30] in shown
    assert run(["finetune", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for phrase in (
        "--run-dir",
        "--resume",
        "--extend-epochs",
        "--dry-run",
        "--json",
        "--quiet",
        "see graft options",
    ):
        assert phrase in shown


def test_interruption_and_a_reader_that_left_are_no_tracebacks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*words: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graftlm.cli.app.app", interrupted)
    assert run(["demo"]) == 130
    assert capfd.readouterr().err == "graft: interrupted\n"


def test_head_of_a_long_output_is_no_failure() -> None:
    command = f"'{sys.executable}' -m graftlm options | head -n 1; echo ${{PIPESTATUS[0]}}"
    child = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert child.stdout.splitlines()[0].startswith("format_version")
    assert child.stdout.splitlines()[1] == "0"
    assert child.stderr == ""
