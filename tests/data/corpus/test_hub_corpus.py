"""A corpus streamed from a small hub on loopback, in a process of its own: only HF_ENDPOINT says where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.hub_server import Hub

pytestmark = pytest.mark.sockets

# Each request in turn, options of a corpus and a seed: the texts, what was said and the identity, or the error.
BUILD = """
import json, sys
from pathlib import Path
from graftlm.data.corpus.building import build_corpus
from graftlm.data.corpus.options import CorpusOptions
from graftlm.errors import GraftError
from graftlm.progress import Silent

def texts(part):
    starts = part.document_starts.tolist()
    return ["".join(map(chr, part.window(*span))) for span in zip(starts[:-1], starts[1:])]

for folder, options in json.load(sys.stdin):
    listener = Silent()
    listener.said = []
    listener.say = listener.said.append
    calls = []
    def tokenise(sentences, begins):
        calls.append(len(sentences))
        return [list(map(ord, sentence)) for sentence in sentences]
    try:
        corpus = build_corpus(CorpusOptions(**options), tokenise, 2**17, "ord", 0, Path(folder), listener)
    except GraftError as error:
        print(json.dumps({"error": str(error), "code": error.exit_code}))
        continue
    print(json.dumps({
        "train": texts(corpus.train), "held_out": texts(corpus.held_out), "said": listener.said,
        "calls": len(calls),
    }))
"""


def build(place: Path, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    child = subprocess.run(
        [sys.executable, "-c", BUILD], input=json.dumps(requests), capture_output=True, text=True, cwd=place,
        env=dict(os.environ),
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def lines(*texts: str) -> bytes:
    return "".join(
        json.dumps({"id": n, "text": text, "page": n // 2}) + "\n" for n, text in enumerate(texts)
    ).encode()


def test_a_corpus_is_streamed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [f"Text {number}." for number in range(20)]
    repository = hub.add(
        "datasets", "org/name", {"train.jsonl": lines(*old), "test.jsonl": lines("a.", "b.", "c.")}
    )
    first = repository.branches["main"]
    repository.commit({"train.jsonl": lines(*old, *old, "New."), "test.jsonl": lines("a.", "b.", "c.")})
    newest = repository.branches["main"]
    plain = {"path": "hub:org/name"}
    whole, again, fixed, test, joined, column, split, name = build(
        tmp_path,
        ("whole", plain),
        ("whole", plain),
        ("fixed", {"path": f"hub:org/name@{first}", "held_out_share": 0.0}),
        ("test", {**plain, "split": "test", "held_out_share": 0.0}),
        ("joined", {"path": f"hub:org/name@{first}", "held_out_share": 0.0, "document_column": "page"}),
        ("column", {**plain, "text_column": "txt"}),
        ("split", {**plain, "split": "trian"}),
        ("name", {"path": "hub:org/gone"}),
    )
    assert sorted(whole["train"] + whole["held_out"]) == sorted([*old, "New."])
    assert len(whole["held_out"]) >= 1
    assert f"the newest, commit {newest}, was read" in whole["said"][0]
    assert whole["said"][-1] == "Of 41 documents, left out: 20 exact duplicates."
    assert (again["train"], again["calls"], again["said"]) == (whole["train"], 0, [])
    assert (fixed["train"], fixed["held_out"]) == (old, [])
    assert test["train"] == ["a.", "b.", "c."]
    assert joined["train"] == [f"Text {number}.\nText {number + 1}." for number in range(0, 20, 2)]
    assert "has no column 'txt'; its columns: 'id', 'text', 'page'. Did you mean 'text'?" in column["error"]
    assert "has no split 'trian'" in split["error"] and "Did you mean 'train'?" in split["error"]
    assert "org/gone" in name["error"] and name["code"] == 2

    monkeypatch.setenv(
        "HF_ENDPOINT", "http://127.0.0.1:9"
    )  # nobody listens: what is finished needs no network
    (offline,) = build(tmp_path, ("whole", plain))
    assert (offline["train"], offline["calls"]) == (whole["train"], 0)
