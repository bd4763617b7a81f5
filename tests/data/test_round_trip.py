"""Text is text: nasty strings come back byte for byte from every format."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions

# ruff: noqa: E501 - a table of strings
NASTY = [
    "NA", "N/A", "nan", "NaN", "null", "None", "True", "false", "007", "1e5", "1.0", "-0", "0x1F", "1_000",
    "2024-01-01", "2024-01-01T00:00:00Z", "12:30", "inf", "=1+1", "@user", "#tag", "  spaces around  ",
    "a 'single' and a \"double\" quote", '"starts with a quote', 'ends with a quote"', '""', "back\\slash \\n \\u0041",
    "comma, semicolon; pipe|", "na\u00efve e\u0301", "\U0001f469\u200d\U0001f4bb", "\u202eright to left\u202c",
    "\u05e9\u05dc\u05d5\u05dd", "\u9152\u5e97\u5f88\u597d\uff0c", "soft\u00adhyphen", "inner\ufeffmark", "\ufeffleading mark",
    "line\u2028separator", "next\u0085line", "vertical\vtab", "form\ffeed", "replacement\ufffd", "nbsp\u00a0",
    "\u0130stanbul", "zero\u200bwidth", "\x7f\x1b[0m",
]  # fmt: skip
MULTI_LINE = ["two\nlines", "dos\r\nlines", "old\rmac", "tab\tinside", "ends with newline\n", "\r", "\t"]
LABELS = ["01", "NA"]


def columns(values: list[str]) -> list[dict[str, str]]:
    return [{"text": value, "label": LABELS[row % 2]} for row, value in enumerate(values)]


def write_csv(path: Path, rows: list[dict[str, str]], **options: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], **options)  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(rows)


def check(path: Path, rows: list[dict[str, str]], **options: object) -> None:
    table = read_tables(path, DataOptions.model_validate(options)).splits["all"]
    assert table.columns["text"] == [row["text"] for row in rows]
    assert table.columns["label"] == [row["label"] for row in rows]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv(tmp_path: Path, ending: str):
    rows = columns(NASTY)
    write_csv(tmp_path / "a.csv", rows, lineterminator=ending)
    check(tmp_path / "a.csv", rows)
    rows = columns(NASTY + MULTI_LINE)
    write_csv(tmp_path / "b.csv", rows, lineterminator=ending, quoting=csv.QUOTE_ALL, delimiter=";")
    check(tmp_path / "b.csv", rows, delimiter=";")


def test_csv_ended_by_carriage_returns(tmp_path: Path):
    rows = columns([*NASTY, "old\rmac"])
    write_csv(tmp_path / "a.csv", rows, lineterminator="\r")
    check(tmp_path / "a.csv", rows)


def tsv_bytes(rows: list[dict[str, str]], ending: str) -> bytes:
    lines = ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in rows)]
    return (ending.join(lines) + ending).encode()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_tsv_never_unquotes(tmp_path: Path, ending: str):
    rows = columns(NASTY)
    (tmp_path / "a.tsv").write_bytes(tsv_bytes(rows, ending))
    check(tmp_path / "a.tsv", rows)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_json_lines(tmp_path: Path, ascii_only: bool, ending: str):
    rows = columns([*NASTY, *MULTI_LINE, "nul\0inside"])
    # A NUL is an escape in JSON, never the raw byte.
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    (tmp_path / "a.jsonl").write_bytes((ending.join(lines) + ending).encode())
    check(tmp_path / "a.jsonl", rows)


def test_parquet(tmp_path: Path):
    rows = columns([*NASTY, *MULTI_LINE, "nul\0inside", ""])
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("text", "label")})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", rows)
    encoded = table.set_column(1, "label", table["label"].dictionary_encode())
    pyarrow.parquet.write_table(encoded, tmp_path / "b.parquet")
    check(tmp_path / "b.parquet", rows)


def test_in_memory(tmp_path: Path):
    rows = columns([*NASTY, *MULTI_LINE, "nul\0inside", ""])
    table = read_tables(rows, DataOptions()).splits["all"]
    assert table.columns["text"] == [row["text"] for row in rows]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_byte_order_mark_gzip_and_missing_last_line_end(tmp_path: Path, mark: bytes, name: str):
    rows = columns(["one", "two", "three"])
    separator = "," if name.endswith("csv") else "\t"
    lines = [f"text{separator}label", *(f"{row['text']}{separator}{row['label']}" for row in rows)]
    if name.endswith("jsonl"):
        lines = [json.dumps(row) for row in rows]
    content = mark + "\n".join(lines).encode()
    (tmp_path / name).write_bytes(content)
    check(tmp_path / name, rows)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content + b"\n\n"))
    check(tmp_path / f"{name}.gz", rows)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "utf-8-sig", "gb18030", "cp500"]
)
def test_named_encodings(tmp_path: Path, encoding: str):
    rows = columns(["caf\u00e9", "\u00ef", "plain"])
    (tmp_path / "a.tsv").write_bytes(tsv_bytes(rows, "\n").decode().encode(encoding))
    check(tmp_path / "a.tsv", rows, encoding=encoding)


def test_places_are_lines_of_the_file(tmp_path: Path):
    (tmp_path / "a.csv").write_text('text,label\none,a\n"two\nlines",b\nthree,c\n\n')
    table = read_tables(str(tmp_path / "a.csv"), DataOptions()).splits["all"]
    assert [table.place(row).rpartition(":")[2] for row in range(3)] == ["2", "3", "5"]
    assert list(table.lines or []) == [2, 3, 5]
    (tmp_path / "a.tsv").write_text("text\tlabel\none\ta\ntwo\tb\n")
    assert read_tables(str(tmp_path / "a.tsv"), DataOptions()).splits["all"].lines == range(2, 4)


def test_the_csv_limit_of_python_is_put_back(tmp_path: Path):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text,label\n" + "x" * 500_000 + ",a\n")
    table = read_tables(tmp_path / "a.csv", DataOptions()).splits["all"]
    assert len(str(table.columns["text"][0])) == 500_000
    assert csv.field_size_limit() == before
