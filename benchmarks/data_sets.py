"""The public data sets of the benchmarks, as rows of text and label. They lie beside the project, not in it."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

SST2_TRAIN_ROWS = 8_000
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class TextSet:
    """Rows for training and rows that are only ever scored.

    Args:
        name: of the folder the rows came from.
        train: rows with the keys of a task's roles: ``text``, ``text_pair``, ``label``, ``labels``, ``number``.
        test: held-out rows; None where the set has no split of its own.
    """

    name: str
    train: Rows
    test: Rows | None


def shared_data(given: str | None) -> Path:
    """Return the folder of the data sets: the argument, else ``GRAFTLM_SHARED_DATA``, else ``../shared/data``."""
    folder = Path(given or os.environ.get("GRAFTLM_SHARED_DATA") or DEFAULT_FOLDER)
    if not folder.is_dir():
        raise SystemExit(f"there is no folder {folder}: give --shared-data or set GRAFTLM_SHARED_DATA")
    return folder


def load(name: str, folder: Path) -> TextSet:
    """Read one of the data sets of `NAMES`."""
    return _READERS[name](folder)


def _sst2(folder: Path) -> TextSet:
    place = folder / "glue_sst2"
    train = _tab_separated(gzip.decompress((place / "train.tsv.gz").read_bytes()).decode())
    return TextSet(
        "glue_sst2", train[:SST2_TRAIN_ROWS], _tab_separated((place / "dev.tsv").read_text("utf-8"))
    )


def _tab_separated(content: str) -> Rows:
    lines = content.rstrip("\n").split("\n")[1:]  # GLUE files have no quoting
    return [{"text": text, "label": label} for text, label in (line.split("\t") for line in lines)]


def _trec(folder: Path) -> TextSet:
    def read(part: str) -> Rows:
        lines = (folder / "trec" / part).read_text("latin-1").rstrip("\n").split("\n")
        return [{"text": text, "label": label} for label, text in (line.split(" ", 1) for line in lines)]

    return TextSet("trec", read("TREC.train.all"), read("TREC.test.all"))


def _banking77(folder: Path) -> TextSet:
    def read(part: str) -> Rows:
        with (folder / "banking77" / part).open(encoding="utf-8", newline="") as file:
            return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]

    return TextSet("banking77", read("train.csv"), read("test.csv"))


def _chnsenticorp(folder: Path) -> TextSet:
    file = folder / "chnsenticorp_htl" / "ChnSentiCorp_htl_all.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        rows = [{"text": row["review"], "label": row["label"]} for row in csv.DictReader(stream)]
    return TextSet("chnsenticorp_htl", rows, None)


def _columns(file: Path, columns: dict[str, int], skip: int) -> Rows:
    """Return columns of a tab-separated file without quoting, by position, after ``skip`` lines."""
    lines = file.read_text("utf-8-sig").rstrip("\n").split("\n")[skip:]
    return [{name: line.split("\t")[position] for name, position in columns.items()} for line in lines]


def _cola(folder: Path) -> TextSet:
    """CoLA; the development rows of GLUE are the in-domain and the out-of-domain ones together."""
    parts = {
        part: _columns(folder / "glue_cola" / f"{part}.tsv", {"label": 1, "text": 3}, 0)
        for part in ("in_domain_train", "in_domain_dev", "out_of_domain_dev")
    }
    held_out = [*parts["in_domain_dev"], *parts["out_of_domain_dev"]]
    return TextSet("glue_cola", parts["in_domain_train"], held_out)


def _mrpc(folder: Path) -> TextSet:
    """MRPC, scored on its original test rows."""
    columns = {"label": 0, "text": 3, "text_pair": 4}
    parts = [
        _columns(folder / "glue_mrpc" / f"msr_paraphrase_{part}.txt", columns, 1)
        for part in ("train", "test")
    ]
    return TextSet("glue_mrpc", *parts)


def _rte(folder: Path) -> TextSet:
    columns = {"text": 1, "text_pair": 2, "label": 3}
    parts = [_columns(folder / "glue_rte" / f"{part}.tsv", columns, 1) for part in ("train", "dev")]
    return TextSet("glue_rte", *parts)


def _stsb(folder: Path) -> TextSet:
    columns = {"number": 4, "text": 5, "text_pair": 6}
    parts = [_columns(folder / "glue_stsb" / f"sts-{part}.csv", columns, 0) for part in ("train", "dev")]
    return TextSet("glue_stsb", *parts)


def _goemotions(folder: Path) -> TextSet:
    place = folder / "goemotions"
    names = (place / "labels.txt").read_text("utf-8").split()

    def rows(content: str) -> Rows:
        lines = [line.split("\t") for line in content.rstrip("\n").split("\n")]
        return [
            {"text": text, "labels": [names[int(number)] for number in numbers.split(",")]}
            for text, numbers, _ in lines
        ]

    train = rows(gzip.decompress((place / "train.tsv.gz").read_bytes()).decode())
    return TextSet("goemotions", train, rows((place / "test.tsv").read_text("utf-8")))


_READERS = {
    "sst2": _sst2,
    "trec": _trec,
    "banking77": _banking77,
    "chnsenticorp": _chnsenticorp,
    "cola": _cola,
    "mrpc": _mrpc,
    "rte": _rte,
    "stsb": _stsb,
    "goemotions": _goemotions,
}
NAMES = tuple(_READERS)
