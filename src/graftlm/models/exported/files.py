"""The files of an exported network, where the hub, optimum and transformers.js look for them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftlm.errors import MissingResource, ModelError
from graftlm.models.weight_files import EXPORT_REPORT, inside

FILES: Mapping[str, str] = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}
"""Precision -> file of the network."""
FORMAT_VERSION = 1
_DAMAGED = "export the run again: graft export RUN NEW_FOLDER"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported network; one that lost it, but not its report, is still one."""
    return (folder / EXPORT_REPORT).exists()


def require_onnx(*modules: str) -> None:
    """Refuse work that needs ONNX where it is not installed.

    Raises:
        MissingResource: one of the modules is not there.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingResource(
            f"exported networks need {' and '.join(missing)}, which {'are' if missing[1:] else 'is'} not installed",
            fix='pip install "graftlm[onnx]"',
        )


def sha256_of(content: bytes) -> str:
    """Return the sha256 of a file, as the report names it."""
    return hashlib.sha256(content).hexdigest()


def read_report(folder: Path) -> dict[str, Any]:
    """Return what a folder says about its exported networks.

    Raises:
        ModelError: the report is damaged, or another version wrote it.
    """
    path = inside(folder, EXPORT_REPORT)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version, networks = report["format_version"], report["networks"]
        if not all(isinstance(each["sha256"], str) for each in dict(networks).values()):
            raise ValueError("a network without a checksum")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"{EXPORT_REPORT} is damaged", where=str(path), fix=_DAMAGED) from None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"this export has format version {version!r}; this GraftLM reads {FORMAT_VERSION}",
            where=str(path),
        )
    return report


def read_network(folder: Path, precision: str) -> bytes:
    """Return the exported network of a precision, ``fp32`` or ``int8``.

    Raises:
        ModelError: the folder has none, or the file is not the one that was written.
    """
    networks = read_report(folder)["networks"]
    if precision not in FILES or precision not in networks:
        raise ModelError(
            f"this export has no network in {precision}; it has {' and '.join(networks)}",
            where=str(folder),
            fix="export the run again with --int8" if precision == "int8" else "open it in one of these",
        )
    path = inside(folder, FILES[precision])
    content = path.read_bytes()
    if sha256_of(content) != networks[precision]["sha256"]:
        raise ModelError("this file is not the network that was exported", where=str(path), fix=_DAMAGED)
    return content
