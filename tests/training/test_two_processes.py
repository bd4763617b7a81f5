"""Two processes (gloo) take the same steps as one."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import tiny_base

ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def _launch(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.sockets
def test_two_processes_equal_one(seed: int, tmp_path: Path) -> None:
    """Losses, gradient norms and predictions to 1e-6 relative, with a rank that has no row in some steps."""
    script = str(ROOT / "tests" / "training" / "two_processes.py")
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    _launch([script, str(one), str(seed)], tmp_path)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    _launch([*launcher, script, str(two), str(seed)], tmp_path)
    single, double = json.loads(one.read_text()), json.loads(two.read_text())
    assert (single["processes"], double["processes"]) == (1, 2)
    assert double["patience_seconds"] >= 86_400, "the others wait while the first process saves and proves"
    np.testing.assert_allclose(double["losses"], single["losses"], rtol=1e-6)
    np.testing.assert_allclose(double["norms"], single["norms"], rtol=1e-6)
    np.testing.assert_allclose(double["logits"], single["logits"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.sockets
def test_without_a_run_directory_every_process_says_so(tmp_path: Path) -> None:
    """Not under torchrun, which would end the second process for the first."""
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"number {n},{'ab'[n % 2]}\n" for n in range(60))
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    words = ["finetune", "rows.csv", "training.device=cpu", "--run-dir", "run"]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "graftlm", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
            env={**_environment(), **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert "run: this folder exists already; a run never overwrites anything" in errors
        assert "choose another --run-dir" in errors
        assert process.returncode == 2


@pytest.mark.slow
@pytest.mark.sockets
def test_the_command_runs_on_two_processes(tmp_path: Path) -> None:
    """`torchrun -m graftlm finetune`: one run directory, one result, proved, the numbers of one process."""
    base = tiny_base(tmp_path / "base", dropout=0.0)
    rows = ["text,label", *(f"{'refund' if n % 2 else 'parcel'} number {n},{'ab'[n % 2]}" for n in range(60))]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    options = ["rows.csv", f"base={base}", "training.epochs=2", "training.device=cpu", "--json"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    results = {}
    for name, prefix in (("two", launcher), ("one", [])):
        printed = _launch([*prefix, "-m", "graftlm", "finetune", *options, "--run-dir", name], tmp_path)
        # The communication library announces itself on standard output.
        (line,) = [line for line in printed.splitlines() if not line.startswith("[Gloo]")]
        results[name] = json.loads(line)
        assert results[name]["proof"]["done"] is True
    assert sorted(path.name for path in tmp_path.iterdir() if (path / "run.json").exists()) == ["one", "two"]
    assert results["one"]["evaluation"]["scores"] == results["two"]["evaluation"]["scores"]
    losses = [
        [
            json.loads(line).get("loss", 0.0)
            for line in (tmp_path / name / "steps.jsonl").read_text().splitlines()
        ]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["processes"] == 2


@pytest.mark.slow
@pytest.mark.sockets
def test_two_processes_pretrain_as_one(seed: int, tmp_path: Path) -> None:
    """`torchrun -m graftlm pretrain`, dropout and drawn tokens included: the losses of one process, and proved."""
    draw = random.Random(seed)
    words = [f"word{number}" for number in range(200)]
    documents = [
        "\n".join(" ".join(draw.choices(words, k=draw.randint(4, 12))) + "." for _ in range(8))
        for _ in range(40)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(documents) + "\n")
    options = [
        "text.txt", "base=electra-tiny", "objective.name=replaced_token_detection",
        "tokenizer.vocabulary_size=300", "training.epochs=0.5", "training.dropout=0.1", "training.batch_tokens=512",
        "training.max_length_tokens=64", "training.device=cpu",
        "corpus.held_out_share=0.2",
    ]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    records = {}
    for name, prefix in (("two", launcher), ("one", [])):
        _launch([*prefix, "-m", "graftlm", "pretrain", *options, "--run-dir", name], tmp_path)
        lines = (tmp_path / name / "steps.jsonl").read_text().splitlines()
        records[name] = [json.loads(line) for line in lines]
        assert json.loads((tmp_path / name / "run.json").read_text())["proof"]["done"] is True
    for kind in (lambda step: step.get("loss"), lambda step: step.get("validation", {}).get("loss")):
        losses = [[found for step in records[name] if (found := kind(step)) is not None] for name in records]
        assert len(losses[0]) > 1
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    one, two = (
        [(step["examples"], step["tokens"]) for step in records[name] if "loss" in step]
        for name in ("one", "two")
    )
    assert one == two
