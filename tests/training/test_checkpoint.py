"""Checkpoints: whole or not at all, bit for bit, and never unpickled."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.training.networks import equal_bits, network, plan, random_examples, train
from torch import nn

from graftlm.errors import MissingResource, RunError
from graftlm.strategies.full import Full
from graftlm.training import checkpoint as module
from graftlm.training.checkpoint import newest_checkpoint, save_checkpoint
from graftlm.training.optimisation import build_optimizer


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    return build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)


def _trained(seed: int) -> tuple[nn.Module, torch.optim.AdamW]:
    model = network(seed, dropout=0.2)
    optimizer = _optimizer(model)
    train(model, random_examples(seed), plan(total_steps=3), optimizer=optimizer)
    return model, optimizer


def _save(folder: Path, step: int, seed: int) -> Path:
    model, optimizer = _trained(seed)
    return save_checkpoint(folder, step, model, optimizer, None, {"note": "x"})


def _no_warning(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.mark.parametrize("stop", range(1, 6))
def test_resume_at_every_step_is_bitwise(seed: int, stop: int, tmp_path: Path) -> None:
    """Weights and optimiser state after a restart equal those of a run that was never interrupted."""
    examples = random_examples(seed)
    whole, parts = network(seed, dropout=0.2), network(seed, dropout=0.2)
    whole_optimizer, first_optimizer = _optimizer(whole), _optimizer(parts)
    all_losses = [step.loss for step in train(whole, examples, plan(), optimizer=whole_optimizer)]

    from itertools import islice

    from accelerate import Accelerator

    from graftlm.objectives.cross_entropy import CrossEntropy
    from graftlm.training.loop import fit

    loss = CrossEntropy().bind(examples.targets, ["0", "1", "2"])
    first = islice(fit(parts, examples, loss, first_optimizer, plan(), Accelerator(cpu=True)), stop)
    losses = [step.loss for step in first]
    save_checkpoint(tmp_path, stop, parts, first_optimizer, None, {})

    again = network(seed + 1, dropout=0.2)  # other weights: everything must come from the checkpoint
    again_optimizer = _optimizer(again)
    found = newest_checkpoint(tmp_path, _no_warning)
    assert found is not None
    assert found.step == stop
    found.restore(again, again_optimizer)
    torch.manual_seed(0)  # a fresh process has another random state
    losses += [step.loss for step in train(again, examples, plan(), start=stop, optimizer=again_optimizer)]
    assert losses == all_losses
    assert equal_bits(whole, again)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        for key, value in whole_optimizer.state[one].items():
            assert torch.equal(value, again_optimizer.state[other][key]), key


def test_best_weights_travel_with_the_checkpoint(seed: int, tmp_path: Path) -> None:
    model, optimizer = _trained(seed)
    best = {name: tensor + 1 for name, tensor in module.named_weights(model).items()}
    save_checkpoint(tmp_path, 3, model, optimizer, best, {})
    found = newest_checkpoint(tmp_path, _no_warning)
    assert found is not None
    restored = found.restore(model, optimizer)
    assert restored is not None
    assert all(torch.equal(restored[name], tensor) for name, tensor in best.items())


def test_two_newest_are_kept(seed: int, tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        _save(tmp_path, step, seed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": _flip,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_every_damage_is_noticed_and_the_one_before_is_used(
    seed: int, name: str, damage: str, tmp_path: Path
) -> None:
    _save(tmp_path, 1, seed)
    newest = _save(tmp_path, 2, seed)
    DAMAGES[damage](newest / name)
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    if name == "manifest.json" and damage == "flipped" and found is not None and found.step == 2:
        pytest.fail("a changed manifest must not validate")
    assert found is not None
    assert found.step == 1
    assert len(warnings) == 1
    assert newest.name in warnings[0]
    assert name in warnings[0] or name == "manifest.json"


@pytest.mark.parametrize("version", [2, None])
def test_another_format_version_is_passed_over(seed: int, version: int | None, tmp_path: Path) -> None:
    """Whole and undamaged, but what its entries mean is not known here."""
    _save(tmp_path, 1, seed)
    manifest = _save(tmp_path, 2, seed) / "manifest.json"
    content = json.loads(manifest.read_text())
    assert content["format_version"] == 1
    manifest.write_text(json.dumps({**content, "format_version": version}))
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found.step == 1
    assert (
        f"step-00000002 is not valid (it has format version {version}, this GraftLM reads 1)" in warnings[0]
    )


def test_nothing_valid_is_said(seed: int, tmp_path: Path) -> None:
    (_save(tmp_path, 1, seed) / "model.safetensors").unlink()
    warnings: list[str] = []
    assert newest_checkpoint(tmp_path, warnings.append) is None
    assert len(warnings) == 1


def test_non_finite_weights_are_never_saved(seed: int, tmp_path: Path) -> None:
    model, optimizer = _trained(seed)
    _save(tmp_path, 1, seed)
    next(iter(model.parameters())).data[0] = float("nan")
    with pytest.raises(RunError, match="not finite"):
        save_checkpoint(tmp_path, 2, model, optimizer, None, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_leaves_the_old_checkpoint(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 1, seed)
    real = module.save_file

    def full(tensors: dict, file: Path) -> None:
        if Path(file).name == "optimizer.safetensors":
            raise OSError(28, "No space left on device")
        real(tensors, file)

    monkeypatch.setattr(module, "save_file", full)
    model, optimizer = _trained(seed)
    with pytest.raises(MissingResource, match=r"No space left.*MiB") as caught:
        save_checkpoint(tmp_path, 2, model, optimizer, None, {})
    assert caught.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_file_that_cannot_grow_leaves_the_old_checkpoint(seed: int, tmp_path: Path) -> None:
    """The real writer meets a real limit (as on a full disk or quota), not an imitation."""
    _save(tmp_path, 1, seed)
    model, optimizer = _trained(seed)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MissingResource, match="MiB") as caught:
            save_checkpoint(tmp_path, 2, model, optimizer, None, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from graftlm.training import checkpoint as module
from graftlm import rundir
from tests.training.networks import network, plan, random_examples, train
from graftlm.strategies.full import Full
from graftlm.training.optimisation import build_optimizer

folder, point = Path(sys.argv[1]), int(sys.argv[2])
model = network(1)
optimizer = build_optimizer(model, Full().parameter_groups(model), 1e-3, 0.01)
train(model, random_examples(1), plan(total_steps=3), optimizer=optimizer)
module.save_checkpoint(folder, 1, model, optimizer, None, {})
module.save_checkpoint(folder, 2, model, optimizer, None, {})
events = 0
def die_at_point(call):
    def wrapped(*arguments, **options):
        global events
        events += 1
        if events == point:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        events += 1
        if events == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped
module.save_file = die_at_point(module.save_file)
module.write_json = die_at_point(module.write_json)
module.sync_folder = die_at_point(module.sync_folder)
module.shutil.rmtree = die_at_point(module.shutil.rmtree)
Path.rename = die_at_point(Path.rename)
os.fsync = die_at_point(os.fsync)
module.save_checkpoint(folder, 3, model, optimizer, None, {})
print("finished", events)
"""


def _killed_at(python: str, folder: Path, point: int) -> str:
    """Save three checkpoints in a child that dies at the given moment of the third save."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    child = subprocess.run(
        [python, "-c", KILLED, str(folder), str(point)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=root,
        check=False,
    )
    assert child.returncode in (0, -9), child.stderr
    return child.stdout


@pytest.mark.slow
def test_killed_at_any_moment_of_a_save(tmp_path: Path, warm_python: str) -> None:
    """SIGKILL before and after each file, sync, rename and removal: a valid checkpoint is always there."""
    moments = int(_killed_at(warm_python, tmp_path / "all", 10**6).split()[1])
    assert moments >= 20
    for point in range(1, moments + 1, 2):
        folder = tmp_path / str(point)
        _killed_at(warm_python, folder, point)
        found = newest_checkpoint(folder, lambda sentence: None)
        assert found is not None, point
        assert found.step in (2, 3)
        valid = [path for path in folder.glob("step-*") if module.problem_of(path) is None]
        assert len(valid) >= 2, point
        shutil.rmtree(folder)


def test_the_manifest_holds_the_hash_of_every_file(seed: int, tmp_path: Path) -> None:
    path = _save(tmp_path, 1, seed)
    manifest = json.loads((path / "manifest.json").read_text())["files"]
    assert set(manifest) == {file.name for file in path.iterdir()} - {"manifest.json"}
    assert all(module.file_sha256(path / name) == digest for name, digest in manifest.items())


def test_every_file_is_synced_before_the_rename(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine after the rename must find the content on the disk."""
    events: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(handle: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        real_sync(handle)

    def rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    _save(tmp_path, 1, seed)
    before, after = events[: events.index("rename")], events[events.index("rename") :]
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"):
        assert any(name in event for event in before), (name, events)
    assert f"sync {tmp_path.name}" in after, "the folder itself is synced after the rename"
