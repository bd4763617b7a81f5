from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graftlm.errors import ModelError
from graftlm.models import weight_files
from graftlm.models.weight_files import find_weights, inside, read_header


def write(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def tensor(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_reads_what_safetensors_wrote(tmp_path):
    tensors = {
        "a": torch.zeros(3, 4),
        "b": torch.zeros(5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 7),
        "scalar": torch.tensor(1.0),
        "whole": torch.zeros(2, dtype=torch.int64),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert read_header(tmp_path / "model.safetensors") == {
        name: tuple(t.shape) for name, t in tensors.items()
    }
    weights = find_weights(tmp_path)
    assert weights.elements == 12 + 5 + 0 + 1 + 2
    assert weights.paths == (tmp_path / "model.safetensors",)


HOSTILE = {
    "empty file": (None, "too few for a header"),
    "header of 2**63": (({}, b"", 2**63), "claims 9223372036854775808 bytes, at most"),
    "header longer than file": (({}, b"", 4_000), "claims 4000 bytes, the file has 10"),
    "not JSON": ((b"{'a': 1}",), "the header is not valid"),
    "not UTF-8": ((b"\xff\xfe",), "the header is not valid"),
    "a list": (([],), "not a JSON object"),
    "deep nesting": ((b"[" * 200_000,), "the header is not valid"),
    "truncated data": (
        ({"a": tensor(0, 4)}, b"\0\0"),
        "the tensors end at byte 4 of the data, the file at 2",
    ),
    "hidden data": (({"a": tensor(0, 4)}, b"\0" * 8), "the tensors end at byte 4 of the data, the file at 8"),
    "overlap": (({"a": tensor(0, 4), "b": tensor(2, 6)}, b"\0" * 6), "'b' overlaps the tensor before it"),
    "gap": (({"a": tensor(0, 4), "b": tensor(6, 10)}, b"\0" * 10), "'b' leaves a gap before it"),
    "duplicate names": (
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"\0",
        ),
        "'a' occurs twice",
    ),
    "shape too large": (({"a": tensor(0, 4, (2**40, 2**40))}, b"\0" * 4), "does not fill its 4 bytes"),
    "negative shape": (({"a": tensor(0, 4, (-1, -1))}, b"\0" * 4), "no valid shape and data_offsets"),
    "true as size": (({"a": tensor(0, 4, (True,))}, b"\0" * 4), "no valid shape and data_offsets"),
    "backwards": (({"a": tensor(4, 0)}, b"\0" * 4), "does not fill its -4 bytes"),
    "three offsets": (
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"\0" * 4),
        "no valid shape and data_offsets",
    ),
    "unknown type": (({"a": tensor(0, 4, dtype="F4")}, b"\0" * 4), "has the type 'F4'"),
    "type is a list": (
        ({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        "has the type []",
    ),
    "entry is a number": (({"a": 7},), "has the type None"),
    "metadata is a list": (({"__metadata__": []},), "__metadata__ is not a JSON object"),
    "too many tensors": (
        ({f"t{index}": tensor(0, 0, (0,)) for index in range(20_001)},),
        "20001 tensors, at most 20000 are read",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers(tmp_path, case):
    content, message = HOSTILE[case]
    path = tmp_path / "model.safetensors"
    if content is None:
        path.write_bytes(b"")
    else:
        write(path, *content)
    with pytest.raises(ModelError) as caught:
        find_weights(tmp_path)
    assert message in str(caught.value)
    assert caught.value.where == str(path)
    assert len(str(caught.value)) < 600


def test_many_tensors_are_fine(tmp_path):
    header = {f"t{index}": tensor(0, 0, (0,)) for index in range(20_000)}
    assert len(read_header(write(tmp_path / "model.safetensors", header))) == 20_000


def test_pickles_alone_are_refused_with_a_way_out(tmp_path):
    canary = tmp_path / "canary"
    bomb = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt", "model.pkl"):
        (tmp_path / name).write_bytes(bomb)
    with pytest.raises(ModelError, match="only pickle weights here") as caught:
        find_weights(tmp_path)
    assert f"graft import-checkpoint {tmp_path} NEW_FOLDER" in caught.value.fix
    (tmp_path / "pytorch_model.bin").unlink()  # what is no file of transformers is not converted
    with pytest.raises(ModelError, match="only pickle weights here") as caught:
        find_weights(tmp_path)
    assert "save_pretrained" in caught.value.fix
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert find_weights(tmp_path).elements == 1
    assert not canary.exists()


def test_nothing_there(tmp_path):
    with pytest.raises(ModelError, match=r"no model\.safetensors in this folder"):
        find_weights(tmp_path)


def index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    weights = find_weights(tmp_path)
    assert [path.name[:11] for path in weights.paths] == ["model-00001", "model-00002"]
    assert weights.elements == 5
    save_file({"a": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"tensor .a. is in model-00001-of-00002\.safetensors and in"):
        find_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.safetensors", "a shard must be a plain file name"),
        ("/etc/passwd", "a shard must be a plain file name"),
        ("sub/model.safetensors", "a shard must be a plain file name"),
        ("..\\outside.safetensors", "a shard must be a plain file name"),
        ("..", "a shard must be a .safetensors file"),
        ("", "a shard must be a .safetensors file"),
        ("pytorch_model.bin", "pickle weights are refused"),
        ("missing.safetensors", "file not found"),
        (7, "a shard must be a plain file name"),
        (["x"], "not a valid index of shards"),
    ],
)
def test_hostile_indexes(tmp_path, name, message):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"")
    index(folder, {"a": name})
    with pytest.raises(ModelError) as caught:
        find_weights(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_broken_indexes(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match="index"):
        find_weights(tmp_path)


def test_long_index(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "INDEX_BYTES", 10)
    index(tmp_path, {"a": "model.safetensors"})
    with pytest.raises(ModelError, match="larger than 10 bytes"):
        find_weights(tmp_path)


def test_links(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to("../elsewhere.safetensors")
    with pytest.raises(ModelError, match="this link leaves the model folder"):
        find_weights(folder)
    (folder / "model.safetensors").unlink()
    save_file({"a": torch.zeros(1)}, folder / "real")
    (folder / "model.safetensors").symlink_to("real")
    assert find_weights(folder).elements == 1
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert find_weights(linked).elements == 1


def cache(root: Path) -> Path:
    snapshot = root / "models--org--name" / "snapshots" / ("0" * 40)
    blobs = root / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save_file({"a": torch.zeros(1)}, blobs / "abc")
    return snapshot


def test_links_of_the_download_cache(tmp_path):
    snapshot = cache(tmp_path)
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert find_weights(snapshot).elements == 1
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "config.json").symlink_to("../../../secret.json")
    with pytest.raises(ModelError, match="this link leaves the model folder"):
        inside(snapshot, "config.json")


def test_only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="not a regular file"):
        find_weights(tmp_path)
