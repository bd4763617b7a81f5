"""Building a corpus: what is in it, what is held out, going on after a kill, and refusing what is damaged."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from tests.data.corpus.conftest import Listener, code_points, texts

from graftlm.data.corpus import building, holding_out
from graftlm.data.corpus.holding_out import STRETCH_BYTES
from graftlm.data.corpus.sentences import split_sentences
from graftlm.data.corpus.shards import MANIFEST, Corpus, TokenCorpus, open_corpus
from graftlm.errors import ConfigurationError, DataError, MissingResource

WORDS = ["tree", "ocean", "naïve", "天下", "night", "and", "Mr.", "stone", "😀"]


def sentence(draw: random.Random) -> str:
    return " ".join(["The", *draw.choices(WORDS, k=draw.randint(1, 12))]) + "."


def document(draw: random.Random, longest: int = 8) -> str:
    return draw.choice([" ", "\n"]).join(sentence(draw) for _ in range(draw.randint(1, longest)))


def write(path: Path, documents: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents))
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, commits and shards so small that a test has many, and little to look ahead to."""
    monkeypatch.setattr(holding_out, "LOOKED_AHEAD_BYTES", 3_000)
    monkeypatch.setattr(building, "BATCH_BYTES", 1_500)
    monkeypatch.setattr(building, "COMMIT_BYTES", 4_000)
    monkeypatch.setattr(building, "TOKENS_IN_SHARD", 1_234)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_part(part: TokenCorpus) -> None:
    """Indices, counts and sentences are those of the texts."""
    found = texts(part)
    assert part.num_documents == len(found) == len(part.document_bytes) == len(part.document_starts) - 1
    assert part.document_bytes.tolist() == [len(text.encode()) for text in found]
    assert part.num_bytes == part.document_bytes.sum()
    assert part.num_tokens == sum(map(len, found)) == part.document_starts[-1] == part.sentence_starts[-1]
    assert part.sizes.sentences == len(part.sentence_starts) - 1 == part.document_sentences[-1]
    for number, text in enumerate(found):
        first, last = part.document_sentences[number : number + 2].tolist()
        spans = part.sentence_starts[first : last + 1].tolist()
        assert (spans[0], spans[-1]) == tuple(part.document_starts[number : number + 2])
        pieces = ["".join(map(chr, part.window(*span))) for span in pairwise(spans)]
        assert "".join(pieces) == text
        assert pieces == split_sentences(text)


def test_every_document_is_in_one_part_as_it_was(
    fresh: random.Random, tmp_path: Path, build, small: None
) -> None:
    documents = [document(fresh) + f" {number}" for number in range(300)]
    left_out = ["", "  \n", documents[3], documents[7].upper() + "\n"]
    mixed = [*documents, *left_out]
    corpus: Corpus = build(write(tmp_path / "a.jsonl", mixed), held_out_share=0.1)
    check_part(corpus.train)
    check_part(corpus.held_out)
    held_out = texts(corpus.held_out)
    assert held_out and texts(corpus.train) == [text for text in documents if text not in held_out]
    assert held_out == [text for text in documents if text in held_out]
    assert len(corpus.train.shards) > 5
    counts = {"documents_read": 304, "empty_documents": 2, "documents_without_tokens": 0, "exact_duplicates": 2,
              "near_duplicates": 0}  # fmt: skip
    parts = {
        name: {"documents": part.num_documents, "sentences": part.sizes.sentences, "tokens": part.num_tokens,
               "bytes": part.num_bytes}
        for name, part in (("train", corpus.train), ("held_out", corpus.held_out))
    }  # fmt: skip
    assert corpus.facts == {**parts, **counts}


def test_windows_reach_across_shards(fresh: random.Random, tmp_path: Path, build, small: None) -> None:
    documents = [document(fresh) for _ in range(100)]
    train = build(write(tmp_path / "a.jsonl", documents), held_out_share=0.0, duplicates="keep").train
    ids = np.array([ord(character) for text in documents for character in text])
    for _ in range(50):
        start, end = sorted(fresh.choices(range(len(ids) + 1), k=2))
        window = train.window(start, end)
        assert window.dtype == np.int64 and (window == ids[start:end]).all()
    for start, end in ((-1, 2), (3, 2), (0, len(ids) + 1)):
        with pytest.raises(IndexError, match=f"of {len(ids)}"):
            train.window(start, end)


@pytest.mark.parametrize(("vocabulary_size", "width"), [(65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_where_they_fit(vocabulary_size: int, width: int, tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", ["ab", "cd"])
    highest = lambda sentences, begins: [[vocabulary_size - 1, 0] for _ in sentences]  # noqa: E731
    train = build(source, highest, vocabulary_size=vocabulary_size, held_out_share=0.0).train
    assert train.shards[0].dtype.itemsize == width
    assert train.window(0, 4).tolist() == [vocabulary_size - 1, 0] * 2
    assert (tmp_path / "corpus" / "train" / "tokens-00000.bin").stat().st_size == 4 * width


@pytest.mark.parametrize("ids", [[-1], [500], []])
def test_ids_of_another_vocabulary_are_refused(ids: list[int], tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", ["ab", "cd"])
    rows = lambda sentences, begins: [ids for _ in sentences[bool(not ids) :]]  # noqa: E731
    with pytest.raises(ConfigurationError, match="its vocabulary has 500"):
        build(source, rows, vocabulary_size=500, held_out_share=0.0)


def test_sentences_and_documents_without_tokens_are_left_out(tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", ["One. ？？ Two.", "？？", "Three."])
    tokenise = lambda sentences, begins: code_points([text.replace("？", "").strip() for text in sentences])  # noqa: E731
    corpus = build(source, tokenise, held_out_share=0.0)
    assert texts(corpus.train) == ["One.Two.", "Three."]
    assert np.diff(corpus.train.document_sentences).tolist() == [2, 1]
    assert corpus.facts["documents_without_tokens"] == 1


class Killed(BaseException):
    """What a signal would be."""


def build_until_killed(
    build: Any, source: Path, last: int, done: set[str], options: dict[str, Any]
) -> Corpus | None:
    """Build, and die in call number ``last`` of the tokenizer, which must get none of the sentences ``done``."""
    calls = 0

    def tokenise(sentences: Sequence[str], begins: Sequence[bool]) -> Any:
        nonlocal calls
        calls += 1
        if calls == last:
            raise Killed
        assert not done.intersection(sentences)
        return code_points(sentences)

    try:
        return build(source, tokenise, **options)
    except Killed:
        return None


@pytest.mark.parametrize("duplicates", ["exact", "near"])
def test_a_killed_build_ends_as_if_it_never_was(
    duplicates: str, fresh: random.Random, tmp_path: Path, build, small: None
) -> None:
    documents = [f"This is document {number}. {document(fresh, 30)}" for number in range(80)]
    for _ in range(20):
        documents.insert(fresh.randrange(len(documents)), fresh.choice(documents))
    documents.insert(
        60, "This is long. " + " ".join(sentence(fresh) for _ in range(2_000))
    )  # several stretches
    source = write(tmp_path / "a.jsonl", documents)
    options: dict[str, Any] = {"duplicates": duplicates, "held_out_share": 0.05}
    whole = tmp_path / "whole"
    build(source, folder=whole, **options)

    def committed() -> dict[str, Any]:
        note = tmp_path / "corpus" / "unfinished.json"
        return json.loads(note.read_text()) if note.exists() else {"documents": 0, "parts": {}}

    kills = 0
    while True:
        before = committed()
        done = {split_sentences(text)[0] for text in documents[: before["documents"]]}
        corpus = build_until_killed(build, source, fresh.randint(1, 12), done, options)
        if corpus is not None:
            break
        kills += 1
        assert committed()["documents"] >= before["documents"]
        with pytest.raises(DataError, match="no finished corpus"):
            open_corpus(tmp_path / "corpus")
    assert kills
    assert files_of(tmp_path / "corpus") == files_of(whole)
    check_part(corpus.train)


def test_a_finished_corpus_is_opened_without_reading(fresh: random.Random, tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", [document(fresh) for _ in range(30)])
    first = build(source)
    never = lambda *_: pytest.fail("tokenised again")  # noqa: E731
    os.utime(source, ns=(time.time_ns() + 10**9,) * 2)
    again = build(source, never)
    assert again.fingerprint == first.fingerprint and again.facts == first.facts
    assert texts(again.train) == texts(first.train)
    moved = (
        write(tmp_path / "moved" / "a.jsonl", [])
        if (tmp_path / "moved").mkdir()
        else tmp_path / "moved" / "a.jsonl"
    )
    moved.write_bytes(source.read_bytes())
    assert build(moved, never, max_row_bytes=10_000).fingerprint == first.fingerprint


def test_files_are_synced_before_the_note_that_vouches_for_them(
    fresh: random.Random, tmp_path: Path, build, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", [f"{document(fresh)} {number}" for number in range(100)])
    synced: dict[int, int] = {}
    notes = 0
    fsync, write_json = os.fsync, building.write_json

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        synced[status.st_ino] = status.st_size

    def watched_write_json(path: Path, value: Any) -> None:
        nonlocal notes
        notes += 1
        for name, sizes in value.get("parts", {}).items():
            files = list((tmp_path / "corpus" / name).glob("*.bin")) if sizes["documents"] else []
            assert [synced[file.stat().st_ino] for file in files] == [file.stat().st_size for file in files]
        write_json(path, value)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(building, "write_json", watched_write_json)
    build(source)
    assert notes > 4


def test_a_full_disk_is_an_error_from_which_a_build_goes_on(
    fresh: random.Random, tmp_path: Path, build, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", [f"{document(fresh)} {number}" for number in range(100)])
    build(source, folder=tmp_path / "whole")
    left = fresh.randint(1, 60)

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(MissingResource, match="No space left on device"):
            build(source)
    build(source)
    assert files_of(tmp_path / "corpus") == files_of(tmp_path / "whole")


def test_a_second_process_waits_for_the_first(fresh: random.Random, tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", [document(fresh) for _ in range(30)])
    whole = build(source)
    folder, listener = tmp_path / "other", Listener()
    folder.mkdir()
    for path in (tmp_path / "corpus").iterdir():  # what the first process has not finished yet
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
    held = threading.Event()

    def finish() -> None:
        with FileLock(folder / "lock"):
            held.set()
            time.sleep(0.3)
            shutil.copy(tmp_path / "corpus" / MANIFEST, folder)

    first = threading.Thread(target=finish)
    first.start()
    held.wait()
    never = lambda *_: pytest.fail("tokenised again")  # noqa: E731
    again = build(source, never, folder=folder, listener=listener)
    first.join()
    assert again.fingerprint == whole.fingerprint
    assert listener.said == [f"Another process is making {folder}; waiting for it."]


@pytest.mark.parametrize("finished", [True, False])
def test_another_corpus_in_the_folder_is_refused_by_what_differs(
    finished: bool, fresh: random.Random, tmp_path: Path, build, small: None
) -> None:
    source = write(tmp_path / "a.jsonl", [f"{document(fresh)} {number}" for number in range(60)])

    def tokenise(sentences: Sequence[str], begins: Sequence[bool]) -> Any:
        if (tmp_path / "corpus" / "train" / "tokens-00000.bin").exists() and not finished:
            raise Killed
        return code_points(sentences)

    if finished:
        build(source)
    else:
        with pytest.raises(Killed):
            build(source, tokenise)
    before = files_of(tmp_path / "corpus")
    changes: list[tuple[dict[str, Any], str]] = [
        ({"seed": 1}, "the seed"),
        ({"tokenizer": "other"}, "the tokenizer"),
        ({"vocabulary_size": 0x12_0000}, "the size of the vocabulary"),
        ({"duplicates": "keep", "held_out_share": 0.5}, "corpus.duplicates, corpus.held_out_share"),
    ]
    for change, named in changes:
        with pytest.raises(DataError, match=f"made otherwise; what differs: {named}\n.*start a new run"):
            build(source, **change)
    content = source.read_bytes()
    stamp = source.stat().st_mtime_ns
    source.write_bytes(content.replace(b"tree", b"bush"))
    os.utime(source, ns=(stamp, stamp + 1))
    with pytest.raises(DataError, match="what differs: the text\n"):
        build(source)
    assert files_of(tmp_path / "corpus") == before


def test_folders_of_others_are_left_alone(tmp_path: Path, build) -> None:
    source = write(tmp_path / "a.jsonl", ["ab", "cd"])
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than a corpus: thesis"):
        build(source)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_names_of_files_need_not_be_text(tmp_path: Path, build) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in (b"a\xff.txt", b"b.txt"):
        (folder / os.fsdecode(name)).write_bytes(b"It is " + name[:1])
    assert build(folder).train.num_documents == 1


def test_damage_is_refused_by_name(fresh: random.Random, tmp_path: Path, build, small: None) -> None:
    build(
        write(tmp_path / "a.jsonl", [f"{document(fresh)} {number}" for number in range(100)]),
        held_out_share=0.2,
    )
    folder = tmp_path / "corpus"
    files = sorted(folder.glob("*/*.bin"))
    assert len(files) > 12
    for path in files:
        content = path.read_bytes()
        at = fresh.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << fresh.randrange(8)]) + content[at + 1 :])
        with pytest.raises(DataError, match=f"{path.name}: is damaged"):
            open_corpus(folder)
        path.write_bytes(content[:at])
        with pytest.raises(DataError, match=f"{path.name}: has {at:,} bytes; the manifest says"):
            open_corpus(folder)
        path.unlink()
        with pytest.raises(DataError, match=f"{path.name}: is missing"):
            open_corpus(folder)
        path.write_bytes(content)
    open_corpus(folder)
    manifest = (folder / MANIFEST).read_text()
    for broken in (manifest[:-9], "[]", manifest.replace('"format_version": 1', '"format_version": 2')):
        (folder / MANIFEST).write_text(broken)
        with pytest.raises(DataError, match=MANIFEST):
            open_corpus(folder)


def test_what_was_committed_and_is_gone_is_noticed(
    fresh: random.Random, tmp_path: Path, build, small: None
) -> None:
    source = write(tmp_path / "a.jsonl", [f"{document(fresh, 30)} {number}" for number in range(60)])
    calls = 0

    def tokenise(sentences: Sequence[str], begins: Sequence[bool]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise Killed
        return code_points(sentences)

    with pytest.raises(Killed):
        build(source, tokenise)
    (tmp_path / "corpus" / "train" / "sentence_starts.bin").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match=r"sentence_starts\.bin: has 8 bytes where"):
        build(source)


def test_a_source_that_changes_while_it_is_read_is_refused(
    fresh: random.Random, tmp_path: Path, build
) -> None:
    source = write(tmp_path / "a.jsonl", ["ab", "cd"])

    def tokenise(sentences: Sequence[str], begins: Sequence[bool]) -> Any:
        write(source, ["ab", "cd", "ef"])
        return code_points(sentences)

    with pytest.raises(DataError, match=r"a\.jsonl: changed while it was read"):
        build(source, tokenise)
    assert not (tmp_path / "corpus" / MANIFEST).exists()


def test_share_is_held_out_by_content_and_seed(fresh: random.Random, tmp_path: Path, build) -> None:
    documents = [f"{document(fresh, 2)} {number}" for number in range(1_000)]

    def held_out(name: str, chosen: Sequence[str], seed: int) -> set[str]:
        source = write(tmp_path / f"{name}.jsonl", chosen)
        return set(texts(build(source, folder=tmp_path / name, seed=seed, held_out_share=0.2).held_out))

    parts = [
        held_out("all", documents, 5),
        held_out("shuffled", fresh.sample(documents, len(documents)), 5),
        held_out("fewer", documents[:500], 5),
        held_out("otherwise", documents, 6),
    ]
    assert abs(len(parts[0]) - 200) < 4 * (1_000 * 0.2 * 0.8) ** 0.5
    assert parts[1] == parts[0]
    assert parts[2] == parts[0] & set(documents[:500])
    assert len(parts[3] & parts[0]) < 90
    copies = [text for text in documents[:200] for text in (text, f" {text.upper()}")]
    both = build(write(tmp_path / "e.jsonl", copies), held_out_share=0.2, duplicates="keep")
    train, held_out = (
        {" ".join(text.lower().split()) for text in texts(part)} for part in (both.train, both.held_out)
    )
    assert not train & held_out


def test_a_tokenizer_is_shown_what_is_trained_on_alone(fresh: random.Random, tmp_path: Path, build) -> None:
    novel = " ".join(sentence(fresh) for _ in range(6_000))
    documents = [novel, "", *(f"{document(fresh, 2)} {number}" for number in range(300)), " \n"]
    corpus = build(write(tmp_path / "a.jsonl", documents), seed=4, held_out_share=0.2)
    assert corpus.held_out.num_documents > 20
    assert list(holding_out.trained_on(documents, 0.2, 4)) == texts(corpus.train)
    assert list(holding_out.trained_on(documents, 0.0, 4)) == [text for text in documents if text.strip()]


def test_at_least_one_document_is_held_out(fresh: random.Random, tmp_path: Path, build) -> None:
    for seed in range(5):
        source = write(tmp_path / "a.jsonl", [f"{document(fresh)} {number}" for number in range(3)])
        corpus = build(source, seed=seed, held_out_share=1e-6, folder=tmp_path / str(seed))
        assert (corpus.train.num_documents, corpus.held_out.num_documents) == (2, 1)
    alone = write(tmp_path / "b.jsonl", ["It rained."])
    with pytest.raises(DataError, match=r"corpus.held_out_share: all the text is one document of 10 bytes"):
        build(alone)
    same = write(tmp_path / "c.jsonl", ["It rained."] * 7)
    with pytest.raises(DataError, match=r"one document, 7 times the same, of 70 bytes"):
        list(holding_out.trained_on(["It rained."] * 7, 0.01, 0))
    with pytest.raises(
        DataError, match=r"corpus.held_out_share: all the text is one document, 7 times the same"
    ):
        build(same, folder=tmp_path / "same", duplicates="keep")
    nothing = build(alone, folder=tmp_path / "none", held_out_share=0.0)
    assert (nothing.train.num_documents, nothing.held_out.num_documents) == (1, 0)
    assert nothing.held_out.window(0, 0).tolist() == []


def test_long_documents_are_held_out_in_stretches(fresh: random.Random, tmp_path: Path, build) -> None:
    novels = []
    for number in range(3):
        (tmp_path / "novels").mkdir(exist_ok=True)
        novels.append(" ".join(f"{sentence(fresh)} " for _ in range(fresh.randint(6_000, 9_000))).strip())
        (tmp_path / "novels" / f"{number}.txt").write_text(novels[-1])
    corpus = build(tmp_path / "novels", held_out_share=0.15)
    train, held_out = texts(corpus.train), texts(corpus.held_out)
    assert sum(map(len, train + held_out)) == sum(map(len, novels))
    total = corpus.train.num_bytes + corpus.held_out.num_bytes
    assert 0.01 < corpus.held_out.num_bytes / total < 0.4
    for stretch in held_out:
        assert any(stretch in novel for novel in novels) and not any(stretch in text for text in train)
        assert stretch.lstrip().startswith("The ") and stretch.endswith(".")
        # The last of a novel is what is left.
        least = 1 if any(novel.endswith(stretch) for novel in novels) else STRETCH_BYTES
        assert least <= len(stretch.encode()) < 2 * STRETCH_BYTES
    rest = iter(train)
    for novel in novels:  # what stays between two stretches is a document of its own, in order
        at = 0
        while at < len(novel):
            stretch = next((text for text in held_out if novel.startswith(text, at)), None)
            piece = stretch if stretch is not None else next(rest)
            assert novel.startswith(piece, at)
            at += len(piece)
    assert next(rest, None) is None


def test_progress_tells_a_rate_and_what_was_left_out(fresh: random.Random, tmp_path: Path, build) -> None:
    documents = [document(fresh) + f" {number}" for number in range(50)]
    listener = Listener()
    corpus = build(write(tmp_path / "a.jsonl", [*documents, documents[0], ""]), listener=listener)
    done, total, figures = listener.moves[-1]
    assert done == total == 1 and figures["tokens_per_second"] >= 0
    assert listener.said[-1] == "Of 52 documents, left out: 1 empty documents, 1 exact duplicates."
    assert f"{corpus.train.num_tokens:,} tokens" in listener.said[0]
    assert not any(document[:20] in sentence for sentence in listener.said for document in documents)
