"""The public data sets of the benchmarks, as rows of text and label. They lie beside the project, not in it."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

Rows = list[dict[str, str]]

SST2_TRAIN_ROWS = 8_000
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class TextSet:
    """Rows for training and rows that are only ever scored.

    Args:
        name: of the folder the rows came from.
        train: rows with the keys ``text`` and ``label``.
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
    """Read one of ``sst2``, ``trec``, ``banking77``, ``chnsenticorp``."""
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


_READERS = {"sst2": _sst2, "trec": _trec, "banking77": _banking77, "chnsenticorp": _chnsenticorp}
