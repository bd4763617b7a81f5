"""Minimal pairs as they are stored."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from tests.data.test_real_data import DATA

from graftlm.data.minimal_pairs import fingerprint, read_minimal_pairs
from graftlm.errors import ConfigurationError, DataError


def write(file: Path, pairs: list[tuple[object, object]], **more: object) -> Path:
    lines = [json.dumps({"sentence_good": good, "sentence_bad": bad, **more}) + "\n" for good, bad in pairs]
    content = "".join(lines).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def test_a_folder_of_paradigms_and_a_single_file(tmp_path: Path) -> None:
    write(
        tmp_path / "plural.jsonl",
        [("cats run", "cats runs"), ("we run", "we runs")],
        linguistics_term="agreement",
    )
    write(tmp_path / "case.jsonl.gz", [("I saw", "me saw")])
    (tmp_path / "README.md").touch()
    case, plural = read_minimal_pairs(tmp_path)
    assert (case.name, case.phenomenon, case.good, case.bad) == ("case", "", ["I saw"], ["me saw"])
    assert (plural.name, plural.phenomenon) == ("plural", "agreement")
    assert (plural.good, plural.bad) == (["cats run", "we run"], ["cats runs", "we runs"])
    assert read_minimal_pairs(tmp_path / "plural.jsonl") == [plural]
    (first,) = read_minimal_pairs(tmp_path / "plural.jsonl", rows=1)
    assert (first.good, first.bad) == (["cats run"], ["cats runs"])
    assert fingerprint([plural]) != fingerprint([first]) != fingerprint([case])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [("a", "b"), (None, "b"), ("a", "b"), (3, "b")],
            r"sentence_good is no sentence in 2 rows: .*x\.jsonl:2, .*:4",
        ),
        ([("a", " ")], r"sentence_bad is no sentence in 1 row: .*x\.jsonl:1"),
    ],
)
def test_what_is_no_sentence_is_named_by_line(
    tmp_path: Path, pairs: list[tuple[object, object]], message: str
) -> None:
    write(tmp_path / "x.jsonl", pairs)
    with pytest.raises(DataError, match=message):
        read_minimal_pairs(tmp_path)


def test_other_files_and_folders_are_refused_with_a_way_out(tmp_path: Path) -> None:
    inner = tmp_path / "data"
    inner.mkdir()
    with pytest.raises(DataError, match=r"no \.jsonl file in this folder"):
        read_minimal_pairs(tmp_path)
    write(inner / "x.jsonl", [("a", "b")])
    with pytest.raises(DataError, match=f"name {inner}"):
        read_minimal_pairs(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        read_minimal_pairs(tmp_path / "y.jsonl")
    (inner / "y.jsonl").write_text('{"good": "a", "bad": "b"}\n')
    with pytest.raises(DataError, match=r"y\.jsonl:1: the rows have no key sentence_good"):
        read_minimal_pairs(inner)
    (inner / "y.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"y\.jsonl:1"):
        read_minimal_pairs(inner)
    write(inner / "x.jsonl.gz", [("a", "b")])
    (inner / "y.jsonl").unlink()
    with pytest.raises(DataError, match="two files are called x"):
        read_minimal_pairs(inner)
    with pytest.raises(ConfigurationError, match="at least one row"):
        read_minimal_pairs(inner, rows=0)


@pytest.mark.real
@pytest.mark.skipif(not (DATA / "blimp").is_dir(), reason=f"no BLiMP at {DATA}; set GRAFTLM_SHARED_DATA")
def test_blimp(tmp_path: Path) -> None:
    with tarfile.open(DATA / "blimp" / "blimp.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    paradigms = read_minimal_pairs(tmp_path)
    assert len(paradigms) == 67
    assert {len(paradigm.good) for paradigm in paradigms} == {1000}
    assert len({paradigm.phenomenon for paradigm in paradigms}) == 13
    assert "" not in {paradigm.phenomenon for paradigm in paradigms}
