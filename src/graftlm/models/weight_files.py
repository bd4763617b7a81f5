"""Which safetensors files a model folder is made of, and whether their headers can be believed.

A safetensors file is: 8 bytes (little-endian length of the header), the header (JSON: tensor name -> dtype,
shape, [begin, end) in the data), the data. Everything is checked against the length of the file before any
tensor is touched, so a lying header costs neither memory nor a crash in native code.
Source: the format section of https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from graftlm.errors import ModelError, clip

WEIGHTS = "model.safetensors"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What peft calls its files."""
EXPORT_REPORT = "export.json"
"""Of a folder that `graft export` made: how its networks were made, their sha256, and how they compare with the network
that was trained. Such a folder has no safetensors."""
HEADER_BYTES = 16_000_000
"""Longest header: 20,000 tensors need about 3 MB, so real sharded models stay far below."""
TENSORS = 20_000
INDEX_BYTES = 16_000_000
BYTES_PER_ELEMENT = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8,
}  # fmt: skip
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")
_REDOWNLOAD = "download or save the model again"


@dataclass(frozen=True)
class WeightFiles:
    """The weights of one model folder.

    Args:
        paths: the safetensors files, each header checked.
        elements: number of numbers in all tensors together.
    """

    paths: tuple[Path, ...]
    elements: int


def find_weights(folder: Path, name: str = WEIGHTS) -> WeightFiles:
    """Return the safetensors files of a model folder after checking every header: ``name``, or its shards.

    Pickled files (``pytorch_model.bin``, ``training_args.bin`` ...) beside them are never opened.

    Raises:
        ModelError: there are none, a path leaves the folder, or a header does not fit its file.
    """
    index = folder / f"{name}.index.json"
    if (folder / name).exists():
        names = [name]
    elif index.exists():
        names = _shards(inside(folder, index.name))
    else:
        raise _no_safetensors(folder)
    paths = tuple(inside(folder, name) for name in names)
    elements, owner = 0, dict[str, str]()
    for path in paths:
        for name, shape in read_header(path).items():
            if name in owner:
                raise ModelError(
                    f"tensor {clip(name)} is in {owner[name]} and in {path.name}", fix=_REDOWNLOAD
                )
            owner[name] = path.name
            elements += math.prod(shape)
    return WeightFiles(paths, elements)


def inside(folder: Path, name: str) -> Path:
    """Return ``folder/name`` if it is a regular file that does not leave the model folder.

    The download cache of huggingface_hub stores ``snapshots/<commit>/<name>`` as links to ``blobs/<hash>`` of
    the same repository; only such links may point outside.
    """
    path = folder / name
    where = str(path)
    if not path.exists():
        raise ModelError("file not found", where=where, fix=_REDOWNLOAD)
    target, home = path.resolve(), folder.resolve()
    cache = home.parent.parent / "blobs" if home.parent.name == "snapshots" else None
    if not target.is_relative_to(home) and not (cache and target.is_relative_to(cache)):
        raise ModelError(
            "this link leaves the model folder", where=where, fix="put the file itself into the model folder"
        )
    if not target.is_file():
        raise ModelError("not a regular file", where=where)
    return path


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return tensor name -> shape after checking that the header fits the file exactly."""
    length = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise _damaged(path, f"the file has {length} bytes, too few for a header")
        header_length = int.from_bytes(prefix, "little")
        if header_length > HEADER_BYTES:
            raise _damaged(path, f"the header claims {header_length} bytes, at most {HEADER_BYTES} are read")
        if 8 + header_length > length:
            raise _damaged(path, f"the header claims {header_length} bytes, the file has {length}")
        raw = stream.read(header_length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"the header is not valid: {clip(str(error), 120)}") from None
    if not isinstance(header, dict):
        raise _damaged(path, "the header is not a JSON object")
    return _check_tensors(path, cast("dict[str, Any]", header), length - 8 - header_length)


def _check_tensors(path: Path, header: dict[str, Any], data_length: int) -> dict[str, tuple[int, ...]]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _damaged(path, "__metadata__ is not a JSON object")
    if len(header) > TENSORS:
        raise _damaged(path, f"{len(header)} tensors, at most {TENSORS} are read")
    shapes: dict[str, tuple[int, ...]] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        shape, begin, end = _tensor(path, name, entry)
        shapes[name] = shape
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            problem = "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            raise _damaged(path, f"tensor {clip(name)} {problem} (byte {begin}, expected {position})")
        position = end
    if position != data_length:
        raise _damaged(path, f"the tensors end at byte {position} of the data, the file at {data_length}")
    return shapes


def _tensor(path: Path, name: str, entry: object) -> tuple[tuple[int, ...], int, int]:
    """Return (shape, begin, end) of one header entry."""
    fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in BYTES_PER_ELEMENT:
        known = ", ".join(sorted(BYTES_PER_ELEMENT))
        raise _damaged(path, f"tensor {clip(name)} has the type {clip(dtype)}; read are {known}")
    if not _naturals(shape) or not _naturals(offsets) or len(cast("list[int]", offsets)) != 2:
        raise _damaged(path, f"tensor {clip(name)} has no valid shape and data_offsets")
    sizes, (begin, end) = cast("list[int]", shape), cast("list[int]", offsets)
    if end - begin != math.prod(sizes) * BYTES_PER_ELEMENT[dtype]:
        raise _damaged(
            path, f"tensor {clip(name)} of shape {clip(sizes)} does not fill its {end - begin} bytes"
        )
    return tuple(sizes), begin, end


def _naturals(value: object) -> bool:
    if not isinstance(value, list):
        return False
    items = cast("list[object]", value)
    return len(items) <= 16 and all(type(item) is int and 0 <= item < 2**63 for item in items)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"{clip(key)} occurs twice")
        result[key] = value
    return result


def _shards(index: Path) -> list[str]:
    """Return the file names of a sharded model, none of which may be a path."""
    if index.stat().st_size > INDEX_BYTES:
        raise ModelError(f"larger than {INDEX_BYTES} bytes", where=str(index))
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ModelError("not a valid index of shards", where=str(index), fix=_REDOWNLOAD) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
            raise ModelError(f"a shard must be a plain file name, got {clip(name)}", where=str(index))
        if not name.endswith(".safetensors"):
            raise ModelError(
                f"a shard must be a .safetensors file, got {clip(name)}: pickle weights are refused",
                where=str(index),
            )
    if not names:
        raise ModelError("the index names no shard", where=str(index), fix=_REDOWNLOAD)
    return names


def pytorch_files(folder: Path) -> list[Path]:
    """Return the file that transformers pickled weights into before there was safetensors, or all its shards."""
    whole = folder / "pytorch_model.bin"
    return [whole] if whole.exists() else sorted(folder.glob("pytorch_model-*-of-*.bin"))


def _no_safetensors(folder: Path) -> ModelError:
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if not pickled:
        return ModelError("no model.safetensors in this folder", where=str(folder), fix=_REDOWNLOAD)
    what = f"only pickle weights here ({', '.join(pickled[:3])}): they can run code when read and are refused"
    if pytorch_files(folder):
        fix = f"`graft import-checkpoint {folder} NEW_FOLDER` converts them, without running any code that is in them"
        return ModelError(what, where=str(folder), fix=fix)
    return ModelError(
        what,
        where=str(folder),
        fix="if you trust the source, convert once, in a sandbox, and use the new folder:\n"
        "    model = transformers.AutoModel.from_pretrained(folder, use_safetensors=False)\n"
        "    model.save_pretrained(new_folder)  # and copy the tokenizer files beside it",
    )


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"damaged safetensors file: {what}", where=str(path), fix=_REDOWNLOAD)
