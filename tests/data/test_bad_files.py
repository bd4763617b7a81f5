"""Every kind of bad file: refused, with the place, the finding and the remedy in the message."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from graftlm.errors import GraftError, MissingResource

GOOD = b"text,label\n" + b"".join(
    f"a text number {i},{'pos' if i % 2 else 'neg'}\n".encode() for i in range(40)
)


def with_line(number: int, line: bytes, before: bytes = GOOD) -> bytes:
    """Insert ``line`` so that it becomes line ``number`` of the file."""
    lines = before.split(b"\n")
    return b"\n".join([*lines[: number - 1], line, *lines[number - 1 :]])


def tsv(data: bytes = GOOD) -> bytes:
    return data.replace(b",", b"\t")


def jsonl(*extra: str) -> bytes:
    rows = [json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) for i in range(4)]
    return "\n".join([*rows, *extra, ""]).encode()


# fmt: off
# ruff: noqa: E501 - one case per line or two reads best
CASES: dict[str, tuple[str, bytes, list[str]]] = {
    # wrong bytes
    "cp1252": ("a.csv", with_line(3, "caf\xe9 cr\xe8me,pos".encode("cp1252")),
               ["a.csv:3: byte 0xE9 (byte 4 of the line) is not UTF-8", "cp1252", "(1 such line)",
                "data.encoding=cp1252"]),
    "cp1252 twice": ("a.tsv", tsv(with_line(9, b"\xe9,pos", with_line(3, b"\xe9,pos"))),
                     ["a.tsv:3: byte 0xE9", "(2 such lines)"]),
    "gbk": ("a.csv", with_line(2, "酒店很好,pos".encode("gbk")), ["a.csv:2", "gb18030", "data.encoding=gb18030"]),
    "latin1 only": ("a.csv", with_line(2, b"caf\x81 latte,pos"), ["a.csv:2: byte 0x81", "data.encoding=latin-1"]),
    "utf16 with mark": ("a.csv", GOOD.decode().encode("utf-16"), ["a.csv:1", "UTF-16", "data.encoding=utf-16"]),
    "utf16 le": ("a.csv", GOOD.decode().encode("utf-16-le"), ["a.csv:1", "UTF-16", "data.encoding=utf-16-le"]),
    "utf16 be": ("a.jsonl", jsonl().decode().encode("utf-16-be"), ["a.jsonl:1", "data.encoding=utf-16-be"]),
    "nul": ("a.csv", with_line(4, b"a\0b,pos"), ["a.csv:4: NUL byte (0x00) at byte 2", "1 such line", "remove"]),
    "nul tsv": ("a.tsv", tsv(with_line(4, b"a\0b,pos")), ["a.tsv:4: NUL byte"]),
    "nul jsonl": ("a.jsonl", jsonl('{"text": "a\0", "label": "a"}'), ["a.jsonl:5: NUL byte"]),
    "gzip inside": ("a.csv", gzip.compress(GOOD), ["a.csv:1", "gzip", ".gz"]),
    "cafe in French": ("a.csv", with_line(2, "une id\u00e9e cr\u00e9\u00e9e,pos".encode("latin-1")), ["data.encoding=cp1252"]),
    "excel": ("a.csv", b"PK\x03\x04\xff\xff", ["a.csv:1", "Excel", "CSV"]),
    "cut gzip": ("a.csv.gz", gzip.compress(os.urandom(20).hex().encode() * 500)[:-20], ["a.csv.gz", "gzip", "again"]),
    "no gzip": ("a.csv.gz", GOOD, ["a.csv.gz", "gzip", "again"]),
    # length
    "long line csv": ("a.csv", with_line(3, b"x" * 20_000_000 + b",pos"),
                      ["a.csv:3: the line is longer than 1,000,000 bytes", "data.max_row_bytes"]),
    "long line tsv": ("a.tsv", tsv(with_line(3, b"x" * 2_000_000 + b",pos")), ["a.tsv:3", "data.max_row_bytes"]),
    "long line jsonl": ("a.jsonl", jsonl(json.dumps({"text": "x" * 2_000_000, "label": "a"})), ["a.jsonl:5"]),
    "long line cr": ("a.csv", with_line(3, b"x" * 2_000_000 + b",pos").replace(b"\n", b"\r"), ["a.csv:3"]),
    # rows
    "ragged first long": ("a.csv", with_line(2, b"a,b,pos"),
                          ["a.csv: 1 row does not have the 2 fields of the header ('text', 'label')", "a.csv:2 (3)", "quote"]),
    "ragged later": ("a.csv", with_line(30, b"a,b,pos", with_line(9, b"short")),
                     ["2 rows ", "a.csv:9 (1), a.csv:30 (3)"]),
    "ragged tsv": ("a.tsv", tsv(with_line(5, b"a,b,pos")), ["a.tsv:5 (3)", "1 row "]),
    "ragged many": ("a.csv", b"text,label\n" + b"only text\n" * 50, ["50 rows ", "a.csv:6 (1) and 45 more"]),
    "blank middle": ("a.csv", with_line(7, b""), ["1 blank line", "a.csv:7", "remove"]),
    "blank middle tsv": ("a.tsv", tsv(with_line(7, b"")), ["1 blank line", "a.tsv:7", "remove"]),
    "blank middle jsonl": ("a.jsonl", b'{"text":"a","label":"b"}\n\n{"text":"c","label":"d"}\n',
                           ["a.jsonl:2", "1 blank line"]),
    "quote to the end": ("a.csv", with_line(5, b'"never closed,pos'),
                         ["a.csv:5: a quote opened on this line is never closed", "ends on line 42", '("")']),
    "quote after multi-line": ("a.csv", with_line(5, b'"fine\nfield","never closed'),
                               ["a.csv:6: a quote opened on this line"]),
    "quote then text": ("a.csv", with_line(5, b'"he said "hi" to me",pos'),
                        ["a.csv:5: text follows the closing quote", "opened on line 5", '("")']),
    "quote closed later": ("a.csv", b'text,label\ngood one,pos\n"bad one,neg\nso so,pos\nmeh",neg\nok then,pos\n'
                           + GOOD[11:], ["read as rows of the file", "a.csv:3", '("")']),
    "quote over the limit": ("a.csv", with_line(3, b'"open,pos\n' + b"filler words,neg\n" * 80_000),
                             ["a.csv:3: a field that opened on this line is longer", "data.max_row_bytes"]),
    "mixed line ends": ("a.csv", with_line(3, b"one,pos\rtwo,neg"), ["a.csv:3: a CR", "line end"]),
    "mixed line ends tsv": ("a.tsv", b"text\tlabel\ra\tb\nc\td\n", ["a.tsv:1", "mixes line ends"]),
    # header
    "empty": ("a.csv", b"", ["a.csv: is empty", "header"]),
    "empty mark": ("a.tsv", b"\xef\xbb\xbf", ["a.tsv: is empty"]),
    "empty jsonl": ("a.jsonl", b"", ["a.jsonl: is empty"]),
    "blank first": ("a.csv", b"\n" + GOOD, ["a.csv:1: the first line is blank"]),
    "header only": ("a.csv", b"text,label\n", ["a.csv: has a header but no rows"]),
    "header only tsv": ("a.tsv", b"text\tlabel", ["a.tsv: has a header but no rows"]),
    "duplicate column": ("a.csv", b"text,label,text\na,b,c\n",
                         ["a.csv:1: column name 'text' is used for columns 1 and 3", "name of its own"]),
    "nameless column": ("a.csv", b",text,label\n0,a,b\n", ["a.csv:1: column 1 of 3 has no name", "index=False"]),
    "semicolons": ("a.csv", GOOD.replace(b",", b";"), ["a.csv:1", "'text;label'", "'data.delimiter=;'"]),
    "tabs": ("a.csv", tsv(), ["a.csv:1", "'data.delimiter=\"\\t\"'"]),
    "commas in tsv": ("a.tsv", GOOD, ["a.tsv:1", "data.delimiter=,"]),
    "quoted tsv header": ("a.tsv", b'"text"\t"label"\n"a"\t"b"\n', ["a.tsv:1", "without quoting", ".csv"]),
    "no header": ("a.csv", GOOD[11:], ["a.csv:1: the first line looks like a row", "'neg'", "text and label"]),
    "missing label": ("a.csv", b"text,other\n" + b"".join(b"text %d,other %d\n" % (i, i) for i in range(9)),
                      ["a.csv: no column looks like the label", "'text', 'other'", "data.columns.label="]),
    # values
    "empty text": ("a.csv", with_line(8, b" ,pos"), [": 1 row with an empty text", "a.csv:8", "data.drop_empty_text=true"]),
    "empty label": ("a.csv", with_line(8, b"fine,"), ["the label column 'label' is empty in 1 row", "a.csv:8"]),
    "one class": ("a.csv", GOOD.replace(b"neg", b"pos"), ["only one label, 'pos'", "two classes"]),
    "mixed labels": ("a.jsonl", jsonl('{"text": "x", "label": 0}'),
                     ["mixes types: 4 rows with str (first a.jsonl:1); 1 row with int (first a.jsonl:5)", "string"]),
    "bool and int": ("a.jsonl", b'{"text":"x y","label":true}\n{"text":"z z","label":1}\n', ["mixes types"]),
    "float label": ("a.jsonl", b'{"text":"x y","label":1.0}\n{"text":"z z","label":0}\n',
                    ["fractional numbers in 1 row", "a.jsonl:1", "astype"]),
    "null label": ("a.jsonl", jsonl('{"text": "x", "label": null}'), ["empty in 1 row", "a.jsonl:5"]),
    "null text": ("a.jsonl", jsonl('{"text": null, "label": "a"}'),
                  ["must hold strings, but 1 row holds nothing (missing)", "a.jsonl:5"]),
    "number text": ("a.jsonl", jsonl('{"text": 7, "label": "a"}'), ["1 row holds int", "a.jsonl:5"]),
    "list label": ("a.jsonl", jsonl('{"text": "x", "label": ["a"]}'), ["1 row holds list", "a.jsonl:5"]),
    "regression": ("a.csv", b"text,label\n" + b"".join(b"a text %d,%d.%d\n" % (i, i % 5, i) for i in range(1, 99)),
                   ["regression target", "task.name=text_regression"]),
    # JSON
    "cut json": ("a.jsonl", jsonl('{"text": "x", "lab')[:-1],
                 ["a.jsonl:5: the last line is not whole JSON", "cut short", "again"]),
    "single quotes": ("a.jsonl", jsonl("{'text': 'x'}"), ["a.jsonl:5: is not JSON", "double quotes"]),
    "array": ("a.json", json.dumps([{"text": "x", "label": "y"}], indent=1).encode(), ["a.json:1", "array", "jq"]),
    "pretty": ("a.json", json.dumps({"text": "x", "label": "y"}, indent=1).encode(), ["a.json:1", "per line"]),
    "no object": ("a.jsonl", jsonl('"text"'), ["a.jsonl:5: is a string; expected one JSON object"]),
    "twice": ("a.jsonl", jsonl('{"text": "a", "text": "b", "label": "a"}'), ["a.jsonl:5", "'text' occurs twice"]),
    "nan": ("a.jsonl", jsonl('{"text": "x", "label": NaN}'), ["a.jsonl:5: NaN is not JSON", "null"]),
    "infinity": ("a.jsonl", jsonl('{"text": "x", "label": -Infinity}'), ["a.jsonl:5: -Infinity is not JSON"]),
    "overflow": ("a.jsonl", jsonl('{"text": "x", "label": 1e999}'), ["a.jsonl:5", "too large"]),
    "huge integer": ("a.jsonl", jsonl('{"text": "x", "label": 123456789012345678901234567890}'),
                     ["a.jsonl:5: the integer", "as a string"]),
    "huger integer": ("a.jsonl", jsonl('{"text": "x", "label": ' + "9" * 9000 + "}"), ["a.jsonl:5: the integer"]),
    "surrogate": ("a.jsonl", jsonl('{"text": "\\ud83d", "label": "a"}'), ["a.jsonl:5: \\ud83d is half"]),
    "deep": ("a.jsonl", jsonl('{"text": ' + "[" * 200_000 + "]" * 200_000 + "}"), ["a.jsonl:5", "deep"]),
    "other keys": ("a.jsonl", jsonl('{"text": "x", "lable": "a"}'),
                   ["1 row ", "a.jsonl:5 (lacks 'label'; adds 'lable')", "null"]),
    # Parquet
    "empty parquet": ("a.parquet", b"", ["a.parquet: is empty"]),
    "no parquet": ("a.parquet", GOOD, ["a.parquet: is not a whole Parquet file", "again"]),
    "gz parquet": ("a.parquet.gz", gzip.compress(GOOD), ["a.parquet.gz", "gunzip"]),
}
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "-"))
def test_bad_file_is_refused_with_place_and_remedy(case: str, in_folder: Path, prepare):
    name, content, fragments = CASES[case]
    Path(name).write_bytes(content)
    with pytest.raises(GraftError) as caught:
        prepare(name)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    assert "What to do: " in message
    assert caught.value.exit_code == 2
    assert len(message) < 1500


def test_user_text_is_clipped_in_messages(in_folder: Path, prepare):
    Path("a.jsonl").write_text(json.dumps({"text": "s" * 900, "label": "a"})[:-1] + " broken\n")
    with pytest.raises(GraftError) as caught:
        prepare("a.jsonl")
    assert "s" * 60 not in str(caught.value)


def test_missing_file_names_the_nearest(in_folder: Path, prepare):
    Path("reviews.csv").write_bytes(GOOD)
    with pytest.raises(
        GraftError, match=r"revews\.csv: there is no such file\. Did you mean 'reviews\.csv'\?"
    ):
        prepare("revews.csv")
    with pytest.raises(GraftError, match="there is no folder nowhere"):
        prepare("nowhere/reviews.csv")
    with pytest.raises(GraftError, match="hub:org/name"):
        prepare("org/name")


def test_unknown_suffix_lists_the_known(in_folder: Path, prepare):
    Path("a.xlsx").write_bytes(GOOD)
    with pytest.raises(GraftError, match=r"'\.xlsx'; known \(text also \.gz\): \.bio, .*\.csv, .*\.jsonl"):
        prepare("a.xlsx")
    Path("dir.csv.d").mkdir()
    os.mkfifo("pipe.csv")
    with pytest.raises(GraftError, match="not a file"):
        prepare("pipe.csv")


def test_no_permission_is_an_environment_error(in_folder: Path, prepare, monkeypatch: pytest.MonkeyPatch):
    Path("a.csv").write_bytes(GOOD)

    def refuse(self: Path, *_: object, **__: object):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MissingResource, match=r"a\.csv: cannot be opened: Permission denied") as caught:
        prepare("a.csv")
    assert caught.value.exit_code == 3
    monkeypatch.setattr(Path, "iterdir", refuse)
    Path("folder").mkdir()
    with pytest.raises(MissingResource, match="folder: the folder cannot be listed"):
        prepare("folder")


def test_bad_options(in_folder: Path, prepare):
    Path("a.csv").write_bytes(GOOD)
    with pytest.raises(GraftError, match=r"no text encoding 'utf8x'"):
        prepare("a.csv", encoding="utf8x")
    with pytest.raises(GraftError, match="no text encoding 'rot13'"):
        prepare("a.csv", encoding="rot13")
    with pytest.raises(GraftError, match=r"data\.delimiter"):
        prepare("a.csv", delimiter='"')
    with pytest.raises(GraftError, match=r"data\.path: no data is given"):
        prepare(None)
