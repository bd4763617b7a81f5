"""The real command, killed from outside with SIGKILL at random moments: the resumed run equals the undisturbed one.

The undisturbed run and every fifth that is resumed begin with a cold start; the others are forked from a process that
has loaded torch (see `tests.warm`), and are killed as dead. `GRAFTLM_KILLS` sets how many moments are tried (20 by
default).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import tiny_base
from tests.warm import Forked, Server

KILLS = int(os.environ.get("GRAFTLM_KILLS", "20"))
COLD_EVERY = 5
ROOT = Path(__file__).parents[2]

Process = subprocess.Popen[bytes] | Forked


def _start(arguments: list[str], folder: Path, server: Server | None) -> Process:
    """Start the command, cold without a server."""
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = ["-m", "graftlm", "finetune", *arguments, "--quiet"]
    with (folder / "output.log").open("ab") as log:
        if server is not None:
            return Forked(server.address, words, str(folder), environment, [log.fileno()] * 3)
        return subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, stdout=log, stderr=log)


def _finish(process: Process, folder: Path) -> None:
    assert process.wait(timeout=240) == 0, (folder / "output.log").read_text()[-3000:]


def _wait_for_training(process: Process, run: Path) -> float:
    """Wait until the first step is logged; return that moment."""
    while process.poll() is None and not (run / "steps.jsonl").exists():
        time.sleep(0.005)
    return time.monotonic()


def _log(run: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_and_resumed_is_bitwise_the_same(
    seed: int, tmp_path: Path, warm_server: Server | None
) -> None:
    """Dropout on, a checkpoint every three steps, validation, best weights: 20 of 20 equal."""
    dice = random.Random(seed)
    base = tiny_base(tmp_path / "base", hidden=64, dropout=0.2)
    words = ["refund", "parcel", "password", "team", "bill", "night", "good", "bad", "wrong", "error"]
    rows = ["text,label"]
    for number in range(150):
        text = " ".join(dice.choices(words, k=dice.randint(3, 25)))
        rows.append(f"{text} {number},{'ab'[number % 2]}")
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    options = [
        "rows.csv", f"base={base}", "training.epochs=8", "training.batch_size=8", "training.micro_batch=4",
        "training.checkpoint_steps=3", "training.device=cpu", "evaluation.proof=none",
    ]  # fmt: skip

    whole = tmp_path / "whole"
    process = _start([*options, "--run-dir", str(whole)], tmp_path, None)
    began = _wait_for_training(process, whole)
    _finish(process, tmp_path)
    duration = time.monotonic() - began
    weights, log = load_file(whole / "model" / "model.safetensors"), _log(whole)

    killed_at: list[int] = []
    while len(killed_at) < KILLS:
        run = tmp_path / f"killed-{len(killed_at)}"
        process = _start([*options, "--run-dir", str(run)], tmp_path, warm_server)
        _wait_for_training(process, run)
        time.sleep(dice.uniform(0, duration))
        process.kill()
        process.wait()
        if json.loads((run / "run.json").read_text())["state"] == "finished":
            shutil.rmtree(run)  # it was faster this time; draw another moment
            continue
        killed_at.append(sum("loss" in record for record in _log_so_far(run)))
        cold = len(killed_at) % COLD_EVERY == 0
        _finish(_start(["--resume", str(run)], tmp_path, None if cold else warm_server), tmp_path)
        resumed = load_file(run / "model" / "model.safetensors")
        assert resumed.keys() == weights.keys()
        assert all(torch.equal(resumed[name], weights[name]) for name in weights), killed_at
        assert _log(run) == log, killed_at
        shutil.rmtree(run)
    print(f"killed after steps {sorted(killed_at)}: {len(killed_at)} of {KILLS} resumed bit for bit")
    assert len(set(killed_at)) >= KILLS // 4, "the moments were spread over the run"


def _log_so_far(run: Path) -> list[dict[str, object]]:
    records = []
    for line in (run / "steps.jsonl").read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:  # the line that was being written
            continue
    return records
