"""Two processes (gloo) take the same steps as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def _launch(arguments: list[str], folder: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.sockets
def test_two_processes_equal_one(seed: int, tmp_path: Path) -> None:
    """Losses, gradient norms and predictions to 1e-6 relative, with a rank that has no row in some steps."""
    script = str(ROOT / "tests" / "training" / "two_processes.py")
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    _launch([script, str(one), str(seed)], tmp_path)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", _free_port()]
    _launch([*launcher, script, str(two), str(seed)], tmp_path)
    single, double = json.loads(one.read_text()), json.loads(two.read_text())
    assert (single["processes"], double["processes"]) == (1, 2)
    np.testing.assert_allclose(double["losses"], single["losses"], rtol=1e-6)
    np.testing.assert_allclose(double["norms"], single["norms"], rtol=1e-6)
    np.testing.assert_allclose(double["logits"], single["logits"], atol=1e-5)
