"""Any bytes end in a table or in an error of ours: never in another exception, never in a hang."""

from __future__ import annotations

import gzip
import io
import json
import random
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from graftlm.data.loading import read_file
from graftlm.data.options import DataOptions
from graftlm.errors import GraftError

ROWS = [
    {"text": f'row {i} "quoted", caf\u00e9 \U0001f600\nnext', "label": "ab"[i % 2], "n": i} for i in range(30)
]
SPICE = [
    b"\0",
    b'"',
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"\xff",
    b"\xfe",
    b"{",
    b"}",
    b"[",
    b"\\",
    b"\\ud800",
    b"\xef\xbb\xbf",
]


def valid(kind: str) -> bytes:
    quoted = "".join(
        f'"{str(row["text"]).replace(chr(34), chr(34) * 2)}",{row["label"]},{row["n"]}\n' for row in ROWS
    )
    plain = "".join(f"row {row['n']}\t{row['label']}\t{row['n']}\n" for row in ROWS)
    if kind == "csv":
        return f"text,label,n\n{quoted}".encode()
    if kind == "tsv":
        return f"text\tlabel\tn\n{plain}".encode()
    if kind == "csv.gz":
        return gzip.compress(f"text,label,n\n{quoted}".encode())
    if kind == "jsonl":
        return "".join(
            json.dumps(row, ensure_ascii=bool(i % 2)) + "\n" for i, row in enumerate(ROWS)
        ).encode()
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def mutate(content: bytes, fresh: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(fresh.randint(1, 6)):
        at = fresh.randrange(len(data) + 1)
        match fresh.randrange(6):
            case 0:
                data[at:at] = fresh.choice(SPICE)
            case 1:
                data[at : at + fresh.randint(1, 40)] = b""
            case 2:
                data[at : at + 1] = bytes([fresh.randrange(256)])
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + fresh.randint(1, 60)]
            case _:
                data[at:at] = fresh.randbytes(fresh.randint(1, 8))
    return bytes(data)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "csv.gz", "parquet"])
def test_mutated_files(kind: str, tmp_path: Path, fresh: random.Random):
    content, outcomes = valid(kind), {"table": 0, "error": 0}
    assert len(read_file(str(tmp_path_with(tmp_path, kind, content)), DataOptions())) == 30
    slowest = 0.0
    for _ in range(200):
        path = tmp_path_with(tmp_path, kind, mutate(content, fresh))
        started = time.perf_counter()
        try:
            table = read_file(str(path), DataOptions())
        except GraftError as problem:
            outcomes["error"] += 1
            assert f"a.{kind}" in str(problem)
        else:
            outcomes["table"] += 1
            assert {len(values) for values in table.columns.values()} == {len(table)}
            if kind in ("csv", "tsv"):
                assert all(isinstance(value, str) for values in table.columns.values() for value in values)
        slowest = max(slowest, time.perf_counter() - started)
    print(outcomes, f"slowest {slowest:.3f} s")
    assert outcomes["error"] > 10
    assert slowest < 2


def tmp_path_with(folder: Path, kind: str, content: bytes) -> Path:
    path = folder / f"a.{kind}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.parquet"])
def test_random_bytes(name: str, tmp_path: Path, fresh: random.Random):
    for size in (1, 3, 50, 5000):
        (tmp_path / name).write_bytes(fresh.randbytes(size))
        try:
            read_file(str(tmp_path / name), DataOptions())
        except GraftError as problem:
            assert name in str(problem)
