"""Real texts, where they are present: documents, characters and sentences as their owners and readers count them."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from tests.data.corpus.conftest import texts

from graftlm.data.corpus.sentences import split_sentences

DATA = Path(os.environ.get("GRAFTLM_SHARED_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set GRAFTLM_SHARED_DATA"),
]


def test_novels(read) -> None:
    found, said = read(DATA / "english_novels")
    assert len(found) == 47
    assert sum(len(text) for text, _ in found) > 35_227_673 - 1_000  # blank lines at both ends are left out
    assert "README.md (about the data)" in said[0] and "corpus.document=file" in said[1]
    # Broken lines (Conrad), paragraphs on one line (Woolf), lines broken by markup (Schreiner).
    for author, mean in (("Conrad", (80, 125)), ("Woolf", (85, 130)), ("Schreiner", (75, 125))):
        (text,) = (text for text, place in found if author in place)
        sentences = split_sentences(text)
        assert mean[0] < len(text) / len(sentences) < mean[1], author
        ended = sum(sentence.rstrip().endswith((".", "!", "?", '"', "'", ":")) for sentence in sentences)
        assert ended > 0.9 * len(sentences), author
        assert not any(sentence.endswith((" Mr.", " Mrs.", " Dr.")) for sentence in sentences), author


def test_wikitext(read) -> None:
    found, said = read(DATA / "wikitext2_valid_test")
    assert len(found) == 60 + 60  # articles
    assert all(text.lstrip().startswith("= ") for text, _ in found)
    assert "corpus.document=heading" in said[1]


def test_masc(read) -> None:
    found, _ = read(DATA / "masc_text", document_column="document")
    assert len(found) == 392
    assert sum(text.count("\n") + 1 for text, _ in found) == 34_532


def test_tiny_shakespeare_and_chinese_classics(read, build, tmp_path: Path) -> None:
    ((play, _),) = read(DATA / "tiny_shakespeare" / "input.txt")[0]
    assert len(play) == 1_115_394 - 1
    assert list(islice(split_sentences(play), 3)) == [
        "First Citizen:", "\nBefore we proceed any further, hear me speak.", "\n\nAll:",
    ]  # fmt: skip
    novels, _ = read(DATA / "chinese_classics")
    assert len(novels) == 4
    for text, _ in novels:
        assert "\r" not in text and "\ufeff" not in text
        assert 15 < len(text) / len(split_sentences(text)) < 35
    corpus = build(DATA / "chinese_classics", folder=tmp_path / "chinese")
    assert corpus.held_out.num_documents >= 1
    together = [*texts(corpus.train), *texts(corpus.held_out)]
    assert sum(map(len, together)) == sum(len(text) for text, _ in novels)
