"""`graft import-checkpoint`: what TensorFlow or PyTorch wrote becomes a base model; a hostile file runs nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.original_bert import CHINESE, CONFIG, Variables, forward, variables, write_texts
from tests.tiny import tiny_base
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer, BertForPreTraining

from graftlm.cli.app import run
from graftlm.errors import ConfigurationError, MissingResource, ModelError
from graftlm.models import pickled_weights, tensorflow_checkpoint
from graftlm.models.base_model import load_model, load_tokenizer
from graftlm.models.imported import save_imported
from graftlm.models.locating import locate
from graftlm.workflows import import_checkpoint as workflow
from graftlm.workflows.import_checkpoint import import_checkpoint

TENSORFLOW = importlib.util.find_spec("tensorflow") is not None

# The optimiser's slots and the step beside the weights, as the original saves them.
WRITE = """
import sys, numpy, tensorflow as tf
one = tf.compat.v1
values = dict(numpy.load(sys.argv[1]))
slots = {f"{name}/adam_{slot}": values[name] + 1 for name in values for slot in "mv"}
with tf.Graph().as_default(), one.Session() as session:
    for name, value in {**values, **slots, "global_step": numpy.int64(7), "output_bias": numpy.zeros(3, "f4")}.items():
        one.get_variable(name, initializer=value)
    session.run(one.global_variables_initializer())
    one.train.Saver().save(session, sys.argv[2], write_meta_graph=False)
"""


@pytest.fixture
def heard() -> Any:
    class Heard:
        def __init__(self) -> None:
            self.said: list[str] = []

        def stage(self, name: str) -> None:
            pass

        def say(self, sentence: str) -> None:
            self.said.append(sentence)

        warn = say

        def advance(self, done: int, total: int, **figures: object) -> None:
            pass

    return Heard()


def assert_computes_alike(folder: Path, values: Variables, random: np.random.Generator) -> None:
    """With plain transformers, as the original written out in numpy."""
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    assert type(model) is BertForPreTraining
    ids, segments = random.integers(0, 30, (3, 9)), random.integers(0, 2, (3, 9))
    real = np.ones_like(ids)
    with torch.no_grad():
        found = model(*map(torch.from_numpy, (ids, real, segments)))
    logits = found.prediction_logits, found.seq_relationship_logits
    for one, other in zip(forward(values, ids, segments, real), logits, strict=True):
        np.testing.assert_allclose(other.numpy(), one, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow is not installed: pip install 'graftlm[tensorflow]'")
def test_a_checkpoint_that_tensorflow_wrote(tmp_path: Path, seed: int, heard: Any) -> None:
    random = np.random.default_rng(seed)
    values, source = variables(random), tmp_path / "uncased_L-3"
    write_texts(source, {**CONFIG, **CHINESE})
    np.savez(tmp_path / "values.npz", **values)
    words = [sys.executable, "-c", WRITE, str(tmp_path / "values.npz"), str(source / "bert_model.ckpt")]
    subprocess.run(words, check=True, capture_output=True)

    files = import_checkpoint(source, tmp_path / "made", progress=heard)
    assert (
        "texts are lower-cased: the folder is called 'uncased_L-3' (--cased if that is wrong)" in heard.said
    )
    assert "variables that a BERT of pretraining does not have, left out: output_bias" in heard.said
    names = {file.name for file in files.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert load_model(files, ["AutoModelForMaskedLM"], {}, 0).new_parameters == []
    assert load_tokenizer(files).tokenize("Élan!") == ["elan", "!"]

    assert_computes_alike(files.folder, values, random)

    data = source / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    place = content.index(values["bert/pooler/dense/kernel"].tobytes())
    content[place + 5] ^= 1
    data.write_bytes(content)
    with pytest.raises(ModelError, match=r"this checkpoint cannot be read: .*hecksum"):
        import_checkpoint(source, tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize(("lowercase", "tokens"), [(None, ["elan"]), (True, ["elan"]), (False, ["[UNK]"])])
def test_a_checkpoint_becomes_a_base_model(
    tmp_path: Path,
    seed: int,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
    lowercase: bool | None,
    tokens: list[str],
) -> None:
    """All but the reading itself, which needs TensorFlow."""
    random = np.random.default_rng(seed)
    values = variables(random)
    write_texts(tmp_path / "mine")
    (tmp_path / "mine" / "model.ckpt-20.index").touch()

    def read(prefix: Path, scratch: Path) -> dict[str, torch.Tensor]:
        assert prefix == tmp_path / "mine" / "model.ckpt-20" and scratch.is_dir()
        return {name: torch.from_numpy(value) for name, value in values.items()}

    monkeypatch.setattr(workflow, "read_variables", read)
    files = import_checkpoint(tmp_path / "mine" / "model.ckpt-20", tmp_path / "made", lowercase, heard)
    reason = (
        "texts are lower-cased: 0 tokens of 30 with a capital letter in vocab.txt (--cased if that is wrong)"
    )
    assert heard.said == ([reason] if lowercase is None else [])
    assert AutoTokenizer.from_pretrained(files.folder).tokenize("Élan") == tokens
    assert load_tokenizer(files).tokenize("Élan") == tokens
    assert_computes_alike(files.folder, values, random)


def test_the_folder_that_one_stands_in_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "bert")
    monkeypatch.chdir(tmp_path / "bert")
    assert tensorflow_checkpoint.find_checkpoint(Path()) is None
    assert tensorflow_checkpoint.find_checkpoint(Path("/")) is None
    Path("bert_model.ckpt.index").touch()
    assert tensorflow_checkpoint.find_checkpoint(Path()) == Path("bert_model.ckpt")


def test_a_checkpoint_is_refused_before_tensorflow_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_texts(tmp_path / "bert")
    (tmp_path / "bert" / "bert_model.ckpt.index").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(ModelError, match=r"no config\.json in this folder.*\n.*graft import-checkpoint"):
        locate(str(tmp_path / "bert"))
    with pytest.raises(ModelError, match="nothing is overwritten"):
        import_checkpoint(tmp_path / "bert", tmp_path / "there")
    monkeypatch.setattr(tensorflow_checkpoint.importlib.util, "find_spec", lambda name: None)
    assert run(["import-checkpoint", str(tmp_path / "bert"), str(tmp_path / "new"), "--cased"]) == 3
    assert 'pip install "graftlm[tensorflow]"' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "there"]


@pytest.fixture
def pickled(tmp_path: Path, seed: int) -> Path:
    """A base model whose weights are pickled, as before safetensors; two tensors share their memory."""
    folder = tiny_base(tmp_path / "pickled", "t5", seed=seed)
    state = AutoModel.from_pretrained(folder).state_dict()
    assert state["shared.weight"].data_ptr() == state["encoder.embed_tokens.weight"].data_ptr()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(tmp_path / "before.safetensors")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


@pytest.mark.usefixtures("warm_children")
def test_pickled_weights_become_safetensors(
    pickled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"graft import-checkpoint .*pickled NEW_FOLDER"):
        load_model(locate(str(pickled)), ["AutoModel"], {}, 0)
    assert run(["import-checkpoint", str(pickled), str(tmp_path / "made"), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'made'}\n"
    made = tmp_path / "made"
    assert not any((made / name).exists() for name in ("modeling.py", "pytorch_model.bin"))
    before = AutoModel.from_pretrained(tmp_path / "pickled", use_safetensors=False).state_dict()
    after = AutoModel.from_pretrained(made).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    # What is shared is written once.
    held = sum(parameter.numel() for parameter in AutoModel.from_pretrained(made).parameters())
    assert held * 4 <= (made / "model.safetensors").stat().st_size < held * 4 + 20_000
    assert AutoTokenizer.from_pretrained(made).tokenize("good food") == ["good", "food"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as the child does, which takes seconds to begin."""

    def read(module: str, source: Path, output: Path, *_: str) -> None:
        assert module == pickled_weights.__name__
        pickled_weights.main([str(source), str(output)])

    monkeypatch.setattr(pickled_weights, "close_doors", lambda size: None)
    monkeypatch.setattr(workflow, "read_apart", read)


@pytest.mark.usefixtures("in_this_process")
def test_shards_are_converted_one_by_one(pickled: Path, tmp_path: Path) -> None:
    state = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    names = list(state)
    for number, some in enumerate((names[:5], names[5:]), 1):
        part = pickled / f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name].clone() for name in some}, part)
    (pickled / "pytorch_model.bin").unlink()
    files = import_checkpoint(pickled, tmp_path / "made")
    after = AutoModel.from_pretrained(files.folder).state_dict()
    assert all(torch.equal(state[name], after[name]) for name in names)
    part.unlink()
    with pytest.raises(ModelError, match="1 of 2 files are here"):
        import_checkpoint(pickled, tmp_path / "again")


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.usefixtures("warm_children")
def test_a_hostile_pickle_runs_nothing(pickled: Path, tmp_path: Path) -> None:
    state = {"shared.weight": torch.zeros(2), "more": Bomb(tmp_path / "canary")}
    torch.save(state, pickled / "pytorch_model.bin")
    refused = r"this pickle cannot be read: Trying to load unsupported GLOBAL (posix|nt)\.system"
    with pytest.raises(ModelError, match=refused):
        import_checkpoint(pickled, tmp_path / "made")
    with (pickled / "pytorch_model.bin").open("wb") as stream:
        pickle.dump(Bomb(tmp_path / "canary"), stream, protocol=2)
    with pytest.raises(ModelError, match=refused):
        import_checkpoint(pickled / "pytorch_model.bin", tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.safetensors", "pickled"]


@pytest.mark.usefixtures("warm_children")
def test_what_is_no_pickle_is_called_so(pickled: Path, tmp_path: Path) -> None:
    (pickled / "pytorch_model.bin").write_bytes(b"hello world")
    with pytest.raises(ModelError, match=r"damaged, or was not written by torch\.save"):
        import_checkpoint(pickled, tmp_path / "made")


def test_what_could_be_unpickled_is_shut_in_all_the_same(tmp_path: Path) -> None:
    """The second lock, without the first: a pickle that is run may neither write, nor start, nor call anybody."""
    attempts = {
        "file": "open('canary', 'w')",
        "old file": "open('old', 'r+')",
        "process": "import subprocess; subprocess.run(['touch', 'canary'])",
        "shell": "import os; os.system('touch canary')",
        "connection": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "name": "import socket; socket.getaddrinfo('localhost', 80)",
        "removal": "import os; os.remove('old')",
        "native code": "import ctypes; ctypes.CDLL(None)",
        "memory": "bytearray(3 * 2**30)",
    }
    (tmp_path / "old").touch()
    script = """
import json, socket, subprocess, ctypes, sys
from graftlm.models.separate_process import close_doors
close_doors(0)
assert open("old").read() == ""
for name, code in json.load(sys.stdin).items():
    try:
        exec(code)
        print(name, "done")
    except (PermissionError, MemoryError) as error:
        print(name, type(error).__name__)
"""
    child = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(attempts),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    ended = dict(line.rsplit(" ", 1) for line in child.stdout.splitlines())
    memory = ended.pop("memory")
    assert ended == dict.fromkeys(attempts.keys() - {"memory"}, "PermissionError")
    assert memory == "MemoryError" or sys.platform != "linux"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "the file holds a list"),
        ({"state_dict": {"a": torch.zeros(1)}}, "the entry 'state_dict' is a dict"),
        ({3: torch.zeros(1)}, "the entry 3 is a Tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "the tensor 'a' is sparse"),
    ],
)
def test_what_is_no_dictionary_of_tensors(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pickled_weights.tensors_of(content)


def test_a_part_of_a_tensor_is_written_without_the_rest() -> None:
    whole = torch.arange(12.0).view(3, 4)
    found = pickled_weights.tensors_of(
        {"a": whole, "b": whole[1:], "c": whole.T, "again": whole, "none": whole[:0]}
    )
    assert list(found) == ["a", "b", "c", "none"]
    assert all(
        each.is_contiguous() and each.untyped_storage().nbytes() == 4 * each.numel()
        for each in found.values()
    )
    assert torch.equal(found["c"], whole.T)


def test_what_needs_no_import_or_says_it_itself(pickled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="says itself whether it lower-cases"):
        import_checkpoint(pickled, tmp_path / "made", lowercase=True)
    with pytest.raises(ModelError, match="there is no such file or folder"):
        import_checkpoint(tmp_path / "nothing", tmp_path / "made")
    shutil.copyfile(tmp_path / "before.safetensors", pickled / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors lies here too"):
        import_checkpoint(pickled, tmp_path / "made")
    (pickled / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="needs no import"):
        import_checkpoint(pickled, tmp_path / "made")


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_that_lacks_weights_does_not_get_its_name(pickled: Path, tmp_path: Path) -> None:
    state = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    del state["encoder.block.0.layer.0.layer_norm.weight"]
    torch.save(state, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"does not load: 1 tensors .*encoder\.block\.0"):
        import_checkpoint(pickled, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def full(partial: Path) -> None:
        (partial / "file").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(MissingResource, match=r"No space left.*\n.*free disk space or check"):
        save_imported(tmp_path / "made", tmp_path, ["AutoModel"], full)
    assert list(tmp_path.iterdir()) == []
