"""`graft push` against a small hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Made
from tests.hub_server import READ_ONLY_TOKEN, Hub
from tests.rows import classified_rows, write_csv

import graftlm
from graftlm.models.artefact import read_facts
from graftlm.models.locating import locate

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.filterwarnings(
        "ignore:Use 'content=:DeprecationWarning"
    ),  # what the hub client says to httpx
]

MODEL = ("models", "acme/reviews")
COMMITS = "POST /api/models/acme/reviews/commit/*"


def test_a_run_becomes_a_private_repository_that_loads_at_its_commit(
    finished: Made, hub: Hub, place: Path, graft
) -> None:
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 0, outcome.err
    repository = hub.repositories[MODEL]
    commit = repository.branches["main"]
    assert outcome.out == f"private; load it with base=acme/reviews@{commit}\n{hub.address}/acme/reviews\n"
    assert "NOT proved" in outcome.err  # the run was made with evaluation.proof=none
    assert hub.bodies[0]["name"] == "reviews" and hub.bodies[0]["organization"] == "acme"
    assert hub.bodies[0].get("private") or hub.bodies[0].get("visibility") == "private"
    assert len(hub.asked(COMMITS)) == 1
    tree = repository.trees[commit]
    written = {file.name for file in (finished.run / "model").iterdir()}
    assert set(tree) == {".gitattributes", *written}
    assert tree["README.md"].startswith(b"---\nlibrary_name: transformers")

    files = locate(f"acme/reviews@{commit}")
    assert (files.name, files.revision) == ("acme/reviews", commit)
    assert files.fingerprint == locate(str(finished.run / "model")).fingerprint


def test_no_path_of_this_machine_is_pushed(finished: Made, hub: Hub, place: Path, graft) -> None:
    assert str(finished.data.parent) in (finished.run / "model" / "recipe.yaml").read_text()
    assert str(finished.data.parent) in (finished.run / "model" / "README.md").read_text()
    outcome = graft("push", finished.run / "model", "acme/reviews")
    assert outcome.code == 0, outcome.err
    assert "local paths are cut to their last name" in outcome.err
    repository = hub.repositories[MODEL]
    tree = repository.trees[repository.branches["main"]]
    base = next(word for word in finished.words if word.startswith("base=")).removeprefix("base=")
    for name, content in tree.items():
        for path in (finished.data.parent, Path(base).parent, Path.home()):
            assert f"{path}/".encode() not in content, name
    recipe = yaml.safe_load(tree["recipe.yaml"])
    assert (recipe["data"]["path"], recipe["base"]) == ("reviews.csv", "tiny-bert")
    assert json.loads(tree["graftlm.json"])["base"]["name"] == "tiny-bert"
    assert b"Columns of reviews.csv" in tree["README.md"]
    (place / "model").mkdir()
    for name, content in tree.items():
        (place / "model" / name).write_bytes(content)
    assert read_facts(place / "model").labels == read_facts(finished.run / "model").labels


def test_pushed_again_nothing_is_sent(finished: Made, hub: Hub, graft) -> None:
    assert graft("push", finished.run, "acme/reviews").code == 0
    first = dict(hub.repositories[MODEL].branches)
    sent = len(hub.asked("PUT *"))
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 0
    assert "nothing was sent" in outcome.err
    assert hub.repositories[MODEL].branches == first
    assert (len(hub.asked("PUT *")), len(hub.asked(COMMITS))) == (sent, 1)


@pytest.mark.parametrize(("request_", "status"), [("PUT /lfs/*", 400), (COMMITS, 500)])
def test_an_interrupted_push_shows_nothing_and_goes_on(
    finished: Made, hub: Hub, graft, request_: str, status: int
) -> None:
    hub.failing[request_] = status
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 3
    assert "acme/reviews: the upload did not end" in outcome.err
    assert "Nothing of it is visible" in outcome.err and "push again" in outcome.err
    repository = hub.repositories[MODEL]
    assert repository.trees[repository.branches["main"]] == {".gitattributes": b""}
    sent = len(hub.stored)
    hub.failing.clear()
    assert graft("push", finished.run, "acme/reviews").code == 0
    assert "model.safetensors" in repository.trees[repository.branches["main"]]
    assert len(hub.asked("PUT *")) == 1 + (sent == 0)  # what had arrived was not sent again


def test_a_public_repository_is_not_pushed_to_by_accident(finished: Made, hub: Hub, graft) -> None:
    hub.add(*MODEL, {"README.md": b"mine"})
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 2
    assert f"{hub.address}/acme/reviews: acme/reviews is public already; nothing was uploaded" in outcome.err
    assert "--public" in outcome.err
    assert not hub.asked(COMMITS)
    outcome = graft("push", finished.run, "acme/reviews", "--public")
    assert outcome.code == 0
    assert outcome.out.startswith("PUBLIC; ")


def test_public_is_said_and_a_private_repository_stays_private(finished: Made, hub: Hub, graft) -> None:
    outcome = graft("push", finished.run, "acme/open", "--public", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{hub.address}/acme/open\n", "")
    assert not hub.repositories["models", "acme/open"].private
    hub.add(*MODEL, {}, private=True)
    outcome = graft("push", finished.run, "acme/reviews", "--public")
    assert outcome.code == 0
    assert "acme/reviews was private before and stays so" in outcome.err
    assert outcome.out.startswith("private; ")


def test_leftovers_of_another_model_go_and_files_of_people_stay(finished: Made, hub: Hub, graft) -> None:
    tree = {
        "LICENSE": b"", "vocab.txt": b"of another tokenizer", "onnx/config.json": b"{}",
        "model-00001-of-00002.safetensors": b"",
    }  # fmt: skip
    hub.add(*MODEL, tree, private=True)
    assert graft("push", finished.run, "acme/reviews").code == 0
    repository = hub.repositories[MODEL]
    now = repository.trees[repository.branches["main"]]
    assert {"LICENSE", "onnx/config.json", "model.safetensors"} <= set(now)
    assert not {"vocab.txt", "model-00001-of-00002.safetensors"} & set(now)


def test_a_branch(finished: Made, hub: Hub, graft) -> None:
    for _ in range(2):
        outcome = graft("push", finished.run, "acme/reviews", "--revision", "v1")
        assert outcome.code == 0, outcome.err
    repository = hub.repositories[MODEL]
    assert outcome.out.splitlines()[-1] == f"{hub.address}/acme/reviews/tree/v1"
    assert "config.json" in repository.trees[repository.branches["v1"]]
    assert list(repository.trees[repository.branches["main"]]) == [".gitattributes"]
    assert locate("acme/reviews@v1").revision == repository.branches["v1"]


def test_files_of_the_user_are_left_here(finished: Made, hub: Hub, place: Path, graft) -> None:
    run = shutil.copytree(finished.run, place / "run")
    shutil.copy(finished.data, run / "model" / "reviews.csv")
    (run / "model" / "notes").mkdir()
    outcome = graft("push", run, "acme/reviews")
    assert outcome.code == 0
    assert "left here, because GraftLM did not write it: notes, reviews.csv" in outcome.err
    repository = hub.repositories[MODEL]
    assert "reviews.csv" not in repository.trees[repository.branches["main"]]


def test_unfinished_runs_and_other_folders_are_refused(finished: Made, hub: Hub, place: Path, graft) -> None:
    run = shutil.copytree(finished.run, place / "run")
    (run / "model" / "README.md").unlink()
    outcome = graft("push", "run", "acme/reviews")
    assert outcome.code == 2
    assert "run/model: the model folder lacks README.md" in outcome.err
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "interrupted"}))
    outcome = graft("push", "run", "acme/reviews")
    assert outcome.code == 2
    assert "run: this run is interrupted, so it has no proved model to push" in outcome.err
    assert f"graft finetune --resume {run}" in outcome.err
    outcome = graft("push", finished.data.parent, "acme/reviews")
    assert (outcome.code, "this folder is not a run" in outcome.err) == (2, True)
    assert not hub.requests


@pytest.mark.parametrize("name", ["reviews", "a/b/c", "acme/re views", "acme/", "-x/y", "acme/a..b"])
def test_names_that_are_none(finished: Made, hub: Hub, graft, name: str) -> None:
    outcome = graft("push", "--", finished.run, name)
    assert outcome.code == 2
    assert f"{name!r} is no name of a repository" in outcome.err and "acme/reviews" in outcome.err
    assert not hub.requests


def test_without_a_login_or_the_right_to_write(
    finished: Made, hub: Hub, graft, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token, message in (
        ("hf_unknown", "the hub does not accept your login"),
        (READ_ONLY_TOKEN, "your login may not write to acme/reviews"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        outcome = graft("push", finished.run, "acme/reviews")
        assert (outcome.code, message in outcome.err) == (3, True), outcome.err
        assert "hf auth login" in outcome.err
    monkeypatch.delenv("HF_TOKEN")
    hub.requests.clear()
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 3
    assert "you are not logged in" in outcome.err and "hf auth login" in outcome.err
    assert not hub.requests and not hub.repositories


def test_nobody_answers(finished: Made, hub: Hub, graft, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    outcome = graft("push", finished.run, "acme/reviews")
    assert outcome.code == 3
    assert "the upload did not end" in outcome.err and "check the network" in outcome.err


def test_from_python(finished: Made, hub: Hub) -> None:
    run = graftlm.Run.open(finished.run)
    published = graftlm.push(run, "acme/reviews", revision="v2", quiet=True)
    assert published.private and published.changed
    assert published.commit == hub.repositories[MODEL].branches["v2"]
    assert not graftlm.push(finished.run, "acme/reviews", revision="v2").changed


@pytest.mark.slow
def test_only_the_environment_names_the_hub(finished: Made, hub: Hub, place: Path) -> None:
    """Push, then fine-tune the pushed model at its revision, both as commands of their own."""
    write_csv(place / "more.csv", classified_rows(40, seed=5))

    def command(*words: str) -> str:
        child = subprocess.run(
            [sys.executable, "-m", "graftlm", *words],
            capture_output=True,
            text=True,
            cwd=place,
            env=dict(os.environ),
        )
        assert child.returncode == 0, child.stderr
        return child.stdout

    url = command("push", str(finished.run), "acme/reviews", "--quiet").strip()
    assert url == f"{hub.address}/acme/reviews"
    commit = hub.repositories[MODEL].branches["main"]
    words = [word for word in finished.words if not word.startswith("base=")]
    command("finetune", "more.csv", f"base=acme/reviews@{commit}", *words, "--run-dir", "again")
    facts = read_facts(place / "again" / "model")
    assert (facts.base["name"], facts.base["revision"]) == ("acme/reviews", commit)
    assert "base_model: acme/reviews" in (place / "again" / "model" / "README.md").read_text()
