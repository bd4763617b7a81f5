"""Checkpoints that are there whole or not at all.

A checkpoint is a folder: ``model.safetensors`` and ``optimizer.safetensors`` (tensors), ``best.safetensors`` (the best
weights so far, where they are not the current ones), ``averaged.safetensors`` (where weights are averaged),
``state.json`` (everything else) and, written last, ``manifest.json`` with the format version and the sha256 of each. It
is written into a temporary folder, synced, and renamed. No random state is kept: every random decision is a function of
(seed, step). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from graftlm.errors import GraftError, MissingResource, RunError
from graftlm.rundir import sync_folder, write_json
from graftlm.training.optimisation import Stepping

FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
MOMENTS = "optimizer.safetensors"
"""The file of what the optimiser keeps."""
_AVERAGED = "averaged.safetensors"
_KEPT = 2  # with fewer, a crash while the newest is being replaced could leave none


@dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint on disk.

    Args:
        path: its folder.
        step: optimiser steps done.
        state: the caller's JSON values.
    """

    path: Path
    step: int
    state: dict[str, Any]

    def restore(self, model: nn.Module, optimizer: Stepping) -> dict[str, Tensor] | None:
        """Copy weights and optimiser state in place, bit for bit; return the best weights if kept apart.

        For an optimiser that is not attached yet: whose training has not begun.
        """
        copy_weights(model, load_file(self.path / "model.safetensors"))
        restore_moments(self.path / MOMENTS, model, optimizer)
        best = self.path / "best.safetensors"
        return load_file(best) if best.exists() else None

    def averaged(self) -> dict[str, Tensor]:
        """Return the averages, see `graftlm.training.averaging.AveragedWeights.tensors`.

        Raises:
            RunError: it was saved without any.
        """
        file = self.path / _AVERAGED
        if not file.exists():
            raise RunError(
                "this checkpoint holds no averaged weights, which cannot be made up",
                where=str(self.path),
                fix="continue without averaging, or start a new run",
            )
        return load_file(file)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Stepping,
    best: Mapping[str, Tensor] | None,
    state: Mapping[str, Any],
    averaged: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write ``folder/step-<step>`` atomically, then drop all but the newest two; return its path.

    Args:
        folder: of all checkpoints.
        step: optimiser steps done.
        model: whose weights are saved.
        optimizer: whose moments are saved.
        best: the best weights so far, where they are not the current ones.
        state: JSON values of the caller.
        averaged: see `graftlm.training.averaging.AveragedWeights.tensors`.

    Raises:
        MissingResource: when the disk is full or not writable; older checkpoints are untouched.
        RunError: when a weight is not finite; nothing is written.
    """
    optimizer.flush()
    weights = named_weights(model)
    refuse_non_finite(weights, step)
    final = folder / f"step-{step:08d}"
    moments = moments_of(model, optimizer)

    def write(partial: Path) -> None:
        save_tensors(partial / "model.safetensors", weights)
        save_tensors(partial / MOMENTS, moments)
        if best is not None:
            save_tensors(partial / "best.safetensors", best)
        if averaged is not None:
            save_tensors(partial / _AVERAGED, averaged)
        write_json(partial / "state.json", {"step": step, **state})

    needed = sum(
        tensor.nbytes for kept in (weights, moments, best or {}, averaged or {}) for tensor in kept.values()
    )
    write_folder(final, write, f"the checkpoint of step {step}", needed)
    for old in sorted(folder.glob("step-*"))[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def refuse_non_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """Raise a `RunError` where a weight is not finite: such are never saved."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(f"the weights {name} are not finite after step {step}; they are not saved")


def write_folder(final: Path, write: Callable[[Path], None], what: str, needed_bytes: int) -> None:
    """Let a folder appear whole or not at all, in the place of one of that name.

    Args:
        final: the folder.
        write: puts the files into the folder that it is given.
        what: it is, for messages.
        needed_bytes: about how much it takes.

    Raises:
        MissingResource: when the disk is full or not writable.
    """
    folder, partial = final.parent, final.parent / f".partial-{final.name}"
    for left_over in folder.glob(".partial-*"):  # of a process that was killed while it wrote
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        files: dict[str, str] = {}
        for file in sorted(each for each in partial.rglob("*") if each.is_file()):
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
            files[file.relative_to(partial).as_posix()] = file_sha256(file)
        write_json(partial / _MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
        shutil.rmtree(final, ignore_errors=True)  # the same step, written again after a resume
        partial.rename(final)
        sync_folder(folder)
    except GraftError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MissingResource(
            f"{what} cannot be written ({getattr(error, 'strerror', None) or error}); it needs "
            f"{needed_bytes / 2**20:.0f} MiB, {shutil.disk_usage(folder.parent).free / 2**20:.0f} MiB are free",
            where=str(folder),
            fix="free disk space, then continue with --resume; earlier checkpoints are intact",
        ) from None


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint whose every file has the recorded hash; say which were passed over."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem = problem_of(path)
        if problem is None:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            return Checkpoint(path, int(state["step"]), state)
        warn(f"checkpoint {path.name} is not valid ({problem}); falling back to the one before")
    return None


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return every distinct parameter and persistent buffer, detached; tied weights once.

    None is late (see `graftlm.training.optimisation.Stepping`).
    """
    # The state dict is what makes them so; it also tells which buffers persist.
    kept = set(model.state_dict().keys())
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return tensors


def copy_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights by name into the model; a missing or surplus name is a `RunError`."""
    own = named_weights(model)
    if own.keys() != weights.keys():
        raise RunError(
            f"the checkpoint has other weights than the model: {sorted(own.keys() ^ weights.keys())[:5]}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any strides."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def problem_of(
    path: Path, required: Sequence[str] = ("model.safetensors", MOMENTS, "state.json")
) -> str | None:
    """Return what is wrong with a checkpoint folder, or None; it must hold the ``required`` files."""
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, str] = manifest["files"]
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{_MANIFEST} is damaged"
    # Before the hashes: another version may hold other files, or hash them differently.
    if (version := manifest.get("format_version")) != FORMAT_VERSION:
        return f"it has format version {version!r}, this GraftLM reads {FORMAT_VERSION}"
    for name in required:
        if name not in files:
            return f"{name} is not in the manifest"
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file_sha256(file) != digest:
            return f"{name} is damaged"
    return None


def moments_of(model: nn.Module, optimizer: Stepping) -> dict[str, Tensor]:
    """Return what the optimiser keeps, as ``parameter/key``."""
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in _moving(model, optimizer).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(file: Path, model: nn.Module, optimizer: Stepping) -> None:
    """Give an optimiser that is not attached yet what it kept, see `moments_of`."""
    device = next(model.parameters()).device
    tensors = load_file(file)
    moving = _moving(model, optimizer)
    for parameter in moving.values():
        optimizer.state[parameter] = {}
    for entry, tensor in tensors.items():
        name, _, key = entry.rpartition("/")
        if name in moving:
            # AdamW keeps its step counter where it was made: on the CPU unless fused on a GPU.
            place = "cpu" if key == "step" and device.type == "cpu" else device
            optimizer.state[moving[name]][key] = tensor.to(place)


def _moving(model: nn.Module, optimizer: Stepping) -> dict[str, nn.Parameter]:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in held}
