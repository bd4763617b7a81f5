"""Documents of every kind of file, whole and in order; what cannot be read is refused with its place."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tests.data.corpus.conftest import Listener

from graftlm.data.corpus import document, plain_text
from graftlm.data.corpus.documents import read_documents
from graftlm.data.corpus.options import CorpusOptions
from graftlm.errors import ConfigurationError, DataError, GraftError, MissingResource


def some_texts(draw: random.Random, count: int) -> list[str]:
    words = ["tree", "ocean", "naïve", "“quoted”", "天下", "x" * 40, "end."]
    return [" ".join(draw.choices(words, k=draw.randint(1, 30))) + f" {number}" for number in range(count)]


def parquet(path: Path, columns: dict[str, list[Any]], rows_in_group: int = 7) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_in_group)


def test_every_format_gives_the_same_documents(fresh: random.Random, in_folder: Path, read) -> None:
    texts = some_texts(fresh, 300)
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=bool(n % 2)) for n, text in enumerate(texts)]
    table = "\n".join(["id\ttext", *(f"{n}\t{text}" for n, text in enumerate(texts)), ""])
    quoted = "".join(f'{n},"{text}"\n' for n, text in enumerate(texts))
    Path("a.jsonl").write_text("\n".join(lines) + "\n")
    Path("a.jsonl.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    Path("a.tsv").write_text(table)
    Path("a.csv.gz").write_bytes(gzip.compress(("id,text\n" + quoted).encode()))
    parquet(Path("a.parquet"), {"id": list(range(len(texts))), "text": texts})
    Path("a.txt").write_text("\n".join(texts))
    Path("blank.txt").write_text("\n \n\n".join(texts) + "\n\n\n")
    places = {
        "a.parquet": "a.parquet, row 3",
        "a.tsv": "a.tsv:4",
        "a.csv.gz": "a.csv.gz:4",
        "blank.txt": "blank.txt:7",
    }
    forms = {"a.txt": "line", "blank.txt": "blank_line"}
    for name in ("a.jsonl", "a.jsonl.gz", "a.tsv", "a.csv.gz", "a.parquet", "a.txt", "blank.txt"):
        found, _ = read(name, document=forms.get(name, "auto"))
        assert [text for text, _ in found] == texts, name
        assert found[2].place == places.get(name, f"{name}:3")


def test_folders_are_read_in_order_and_say_what_they_leave_aside(in_folder: Path, read) -> None:
    contents = {
        "c/b.txt": b"five", "a.txt.gz": gzip.compress(b"two"), "B.md": b"one", "b/z.jsonl": b'{"text": "three"}\n',
        "b/z.unknown": b"four", "README.md": b"about", "c/LICENSE": b"law", "d.json": b'["no"]', "e.bin": b"\xff\0\1",
        ".git/x.txt": b"hidden", "f.zip": b"PK\x03\x04", "g.tar.gz": b"no gzip", "h.utf8": b"six",
    }  # fmt: skip
    for name, content in contents.items():
        path = Path("texts") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo("texts/pipe.txt")
    found, said = read("texts")
    assert [text for text, _ in found] == ["one", "two", "three", "four", "five", "six"]
    assert found[2].place == "texts/b/z.jsonl:1"
    assert said[0].startswith(
        "Left aside in texts: README.md (about the data), c/LICENSE (about the data), d.json ("
    )
    assert said[0].endswith("and 1 more.")


def test_rows_that_name_one_document_are_one(in_folder: Path, read) -> None:
    rows = [("one", "a"), ("two", "a"), (None, "b"), ("three", "b"), ("four", "a")]
    Path("a.jsonl").write_text(
        "".join(json.dumps({"line": text, "book": book}) + "\n" for text, book in rows)
    )
    parquet(Path("a.parquet"), {"line": [text for text, _ in rows], "book": [book for _, book in rows]})
    for name in ("a.jsonl", "a.parquet"):
        found, _ = read(name, text_column="line", document_column="book")
        assert [text for text, _ in found] == ["one\ntwo", "\nthree", "four"]


WIKITEXT = (
    " \n = First = \n \n Text one . \n \n = = Part = = \n \n Text = two = . \n \n = Second = \n \n More . \n"
)
SENTENCES = "It rained.\nWe stayed (in).\n\nShe said “no.”\nHe left.\n\n\nThe end?\nYes.\n"
PARAGRAPHS = "It rained. We stayed. All slept.\n\nShe left. He did not. No.\n\nThe end. Yes.\n"
BROKEN = "It rained and we\nstayed, all of us.\n\nShe left when the\nnight came.\n"
VERSE = "O night,\nwhen all is still,\n\nO day,\nwhen none is.\n"


@pytest.mark.parametrize(
    ("content", "form", "count"),
    [(WIKITEXT, "heading", 2), (SENTENCES, "blank_line", 3), (PARAGRAPHS, "file", 1), (BROKEN, "file", 1),
     (VERSE, "file", 1), ("Maths.\n\n= 3 =\nholds.\n", "file", 1), ("one line", "file", 1),
     ("\n".join("ab") + "\n", "file", 1)],
)  # fmt: skip
def test_auto_decides_by_the_look_and_says_so(
    content: str, form: str, count: int, in_folder: Path, read
) -> None:
    Path("a.txt").write_text(content)
    found, said = read("a.txt")
    assert len(found) == count
    assert len(said) == 1 and f"corpus.document={form} " in said[0]
    assert read("a.txt", document=form) == (found, [])
    assert all(text.strip("\n") == text for text, _ in found)
    kept = [line for line in content.splitlines() if line.strip()]
    assert [line for text, _ in found for line in text.splitlines() if line.strip()] == kept


def test_headings_begin_documents_only_after_a_blank_line(in_folder: Path, read) -> None:
    Path("a.txt").write_text(WIKITEXT.replace(" More . \n", " More , \n = 1 and C = \n more . \n"))
    found, _ = read("a.txt")
    assert [place for _, place in found] == ["a.txt:2", "a.txt:10"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_the_byte_order_mark_are_dropped(end: str, in_folder: Path, read) -> None:
    Path("a.txt").write_bytes(b"\xef\xbb\xbf" + end.join(["", "one", "", "two\x0b\u2028x", ""]).encode())
    found, _ = read("a.txt", document="file")
    assert found == [("one\n\ntwo\x0b\u2028x", "a.txt")]


def test_other_encodings(in_folder: Path, read) -> None:
    Path("a.txt").write_bytes("天下大势".encode("gb18030"))
    assert read("a.txt", encoding="gb18030")[0][0].text == "天下大势"
    with pytest.raises(DataError, match=r"a.txt:1: byte 0xCC .*gb18030[\s\S]*corpus.encoding=gb18030"):
        read("a.txt")
    with pytest.raises(ConfigurationError, match=r"corpus.encoding: utf-16 cannot be read line by line"):
        read("a.txt", encoding="utf-16")
    with pytest.raises(ConfigurationError, match="no text encoding 'utf8x'"):
        read("a.txt", encoding="utf8x")


def test_texts_that_are_too_long_for_memory_become_several_documents(
    fresh: random.Random, in_folder: Path, read, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (document, plain_text):
        monkeypatch.setattr(module, "LONGEST_DOCUMENT", 100)
    monkeypatch.setattr("graftlm.data.corpus.rows.LONGEST_DOCUMENT", 100)
    text = "\n".join(
        "x" * fresh.randint(0, 60) + " " + "y" * fresh.randint(0, 250) for _ in range(40)
    ).strip()
    Path("a.txt").write_text(text)
    Path("a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"text": part, "d": 1}) + "\n" for part in text.split("\n"))
    )
    for name, more in {
        "a.txt": {"document": "file"},
        "a.jsonl": {},
        "rows.jsonl": {"document_column": "d"},
    }.items():
        found, said = read(name, **more)
        assert max(len(text) for text, _ in found) <= 100
        assert "".join(text for text, _ in found).replace("\n", "") == text.replace("\n", "")
        assert any("longer than 100 characters" in sentence for sentence in said) == (name == "a.txt")


BAD: dict[str, tuple[str, bytes, list[str]]] = {
    "empty": ("a.txt", b"", ["a.txt: holds no text"]),
    "blank": ("a.txt", b" \n\n", ["a.txt: holds no text"]),
    "wrong bytes": ("a.txt", b"one\ntw\xe9o\n", ["a.txt:2: byte 0xE9", "cp1252", "corpus.encoding=cp1252"]),
    "nul": ("a.txt", b"one\ntw\0o\n", ["a.txt:2: NUL byte"]),
    "long line": ("a.txt", b"x" * 2_000, ["a.txt:1: the line is longer than 1,000 bytes", "corpus.max_row_bytes"]),
    "cut gzip": ("a.txt.gz", gzip.compress(b"one\n" * 9)[:-12], ["a.txt.gz: the gzip data is damaged"]),
    "binary": ("a.bin", b"\0\1\2", ["a.bin: is no text: binary"]),
    "json": ("a.json", b"[]", ["a.json: is no text: JSON is read line by line", ".jsonl"]),
    "broken json": ("a.jsonl", b'{"text": "a"}\n{"text": \n', ["a.jsonl:2: is not JSON"]),
    "json without the column": ("a.jsonl", b'{"text": "a"}\n{"txet": "b"}\n',
                                ["a.jsonl:2: has no column 'text'", "Did you mean 'txet'?", "corpus.text_column"]),
    "json number": ("a.jsonl", b'{"text": 3}\n', ["a.jsonl:1: the text column 'text' holds int"]),
    "json nul": ("a.jsonl", b'{"text": "a"}\n{"text": "a\\u0000"}\n', ["a.jsonl:2: NUL character at position 2"]),
    "tsv without the column": ("a.tsv", b"a\tb\n1\t2\n", ["a.tsv:1: has no column 'text'; its columns: 'a', 'b'"]),
    "ragged tsv": ("a.tsv", b"text\tb\n1\t2\n1\n", ["a.tsv:3: has 1 fields where the header has 2"]),
    "header alone": ("a.csv", b"text\n", ["a.csv: holds no text"]),
    "open quote": ("a.csv", b'text\na\n"b\n', ["a.csv:3: a quote opened on this line is never closed"]),
    "damaged parquet": ("a.parquet", b"PAR1....PAR1", ["a.parquet: is not a whole Parquet file"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_with_its_place(name: str, in_folder: Path, read) -> None:
    file, content, expected = BAD[name]
    Path(file).write_bytes(content)
    with pytest.raises(GraftError) as refusal:
        read(file, max_row_bytes=1_000)
    for words in expected:
        assert words in str(refusal.value)


def test_other_refusals(in_folder: Path, read) -> None:
    parquet(Path("a.parquet"), {"text": [1, 2], "body": ["a", "b"]})
    with pytest.raises(DataError, match=r"a.parquet, row 1: the text column 'text' holds int"):
        read("a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: has no column 'boby'.* Did you mean 'body'"):
        read("a.parquet", text_column="boby")
    with pytest.raises(DataError, match="has no column 'title'"):
        read("a.parquet", text_column="body", document_column="title")
    with pytest.raises(DataError, match=r"there is no such file. Did you mean 'a.parquet'"):
        read("a.parqet")
    Path("folder").mkdir()
    with pytest.raises(DataError, match="folder: the folder holds no text"):
        read("folder")
    Path("folder/x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"holds no text; left aside: x.bin \(binary\)"):
        read("folder")
    if os.geteuid():
        Path("a.txt").touch(0)
        with pytest.raises(MissingResource):
            read("a.txt")


def test_progress_reaches_its_end(fresh: random.Random, in_folder: Path) -> None:
    Path("many").mkdir()
    for number in range(3):
        text = "\n".join(
            fresh.choice(["rain", "snow"]) + " " + fresh.randbytes(20).hex() for _ in range(30_000)
        )
        Path(f"many/{number}.txt.gz").write_bytes(gzip.compress(text.encode(), 1))
    size = sum(path.stat().st_size for path in Path("many").iterdir())
    listener = Listener()
    assert len(list(read_documents(CorpusOptions(path="many"), listener))) == 3
    done = [move[0] for move in listener.moves]
    assert done == sorted(done) and done[-1] == listener.moves[-1][1] == -(-size // 1_000_000)
    assert len(done) == done[-1] >= 3
