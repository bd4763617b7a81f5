"""Each guarantee is guarded: with the line that gives it taken out, some test fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# (file, the line that gives the guarantee, what a careless change makes of it, a test that must notice)
MUTATIONS = {
    "files are not synced": (
        "training/checkpoint.py", "os.fsync(stream.fileno())", "pass",
        "tests/training/test_checkpoint.py::test_every_file_is_synced_before_the_rename",
    ),
    "the manifest is not checked": (
        "training/checkpoint.py", "if file_sha256(file) != digest:", "if False:",
        "tests/training/test_checkpoint.py::test_every_damage_is_noticed_and_the_one_before_is_used",
    ),
    "one checkpoint is kept": (
        "training/checkpoint.py", "_KEPT = 2", "_KEPT = 1",
        "tests/training/test_checkpoint.py::test_two_newest_are_kept",
    ),
    "non-finite values go through": (
        "training/loop.py", "if not (math.isfinite(loss) and math.isfinite(norm)):", "if False:",
        "tests/training/test_loop.py::test_stops_at_the_first_value_that_is_not_finite",
    ),
    "a spoilt step moves weights on the device": (
        "training/torch_adamw.py", "spoilt = 1.0 - numbers.isfinite().all().float()", "spoilt = norm * 0.0",
        "tests/training/test_late.py::test_a_spoilt_step_and_all_after_it_move_nothing",
    ),
    "each micro-batch is divided by itself": (
        "training/loop.py", "weights = loss.weights(examples.targets_of(rows))",
        "weights = loss.weights(examples.targets_of(rows[: plan.micro_batch]))",
        "tests/training/test_loop.py::test_micro_batches_change_nothing",
    ),
    "dropout follows the global generator": (
        "training/loop.py", "with kept, dropout_seed(device, plan.seed, number - 1, index, rank):", "with kept:",
        "tests/training/test_loop.py::test_dropout_is_a_function_of_seed_and_step",
    ),
    "predictions keep the order of the batches": (
        "training/evaluation.py", "sorted(parts, key=lambda part: part[0])", "parts",
        "tests/training/test_batching.py::test_predictions_line_up_with_rows",
    ),
    "two processes may write one run": (
        "rundir.py", "lock.acquire(timeout=0)", "pass", "tests/test_rundir.py",
    ),
    "a changed run is continued": (
        "training_run.py", "if changes:", "if False:",
        "tests/test_training_run.py::test_changed_rows_labels_and_base_are_refused",
    ),
    "the proof looks away": (
        "proof.py", "if changed and difference > MARGIN:", "if False:",
        "tests/test_proof.py::test_rounding_may_turn_a_tie_and_nothing_else",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_removed_guarantee_is_noticed(name: str, tmp_path: Path, warm_python: str) -> None:
    file, line, careless, test = MUTATIONS[name]
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    victim = source / "graftlm" / file
    text = victim.read_text()
    assert text.count(line) == 1, f"the guarantee moved: look for it in {file} and mend this list"
    victim.write_text(text.replace(line, careless))
    command = [
        warm_python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        # A library of the one that is forked happens to be a plug-in of pytest too.
        "-W", "ignore::pytest.PytestAssertRewriteWarning", test,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "1 failed" in done.stdout, (
        f"no test noticed that {name}:\n{done.stdout[-2000:]}"
    )
