"""The public data sets of the benchmarks, as rows of what their tasks read. They lie beside the project, not in it."""

from __future__ import annotations

import ast
import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftlm.data.formats._format import Format
from graftlm.data.formats.conll import Conll
from graftlm.data.formats.conllu import Conllu
from graftlm.data.formats.squad import Squad
from graftlm.data.options import DataOptions

Rows = list[dict[str, Any]]

SST2_TRAIN_ROWS = 8_000
# Of the articles of SQuADShifts, in alphabetical order, every so many-th is held out.
ARTICLES_PER_HELD_OUT = 5
# Stands at the end of each review of SubjQA, to be pointed at where there is no answer.
_NO_ANSWER = "ANSWERNOTFOUND"
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class TextSet:
    """Rows for training and rows that are only ever scored.

    Args:
        name: of the folder the rows came from.
        train: rows with the keys of a task's roles: ``text``, ``text_pair``, ``label``, ``labels``, ``number``,
            ``tokens``, ``tags``, ``question``, ``context``, ``answers``.
        test: held-out rows; None where the set has no split of its own.
        validation: rows that a choice may look at; None carves them from train.
    """

    name: str
    train: Rows
    test: Rows | None
    validation: Rows | None = None

    @property
    def splits(self) -> Any:
        """What `graftlm.finetune` takes: the splits there are, or the rows of the only one."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        splits = {name: rows for name, rows in given.items() if rows is not None}
        return splits if len(splits) > 1 else self.train


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


def _sst2_test(folder: Path) -> TextSet:
    """The same training rows, scored on the sentences of the treebank's test, whose labels GLUE keeps to itself."""
    given = _sst2(folder)
    test = _tab_separated((folder / "glue_sst2" / "test.tsv").read_text("utf-8"))
    return TextSet(given.name, given.train, test, validation=given.test)


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


def _table(file: Path, reader: Format, **columns: str) -> Rows:
    """Return columns of a file that one of our own formats reads; the key of a row -> the column."""
    table = reader.read(file, file.name, DataOptions())
    values = [table.columns[column] for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _conll2003(folder: Path) -> TextSet:
    """CoNLL-2003 with the original labels of its test rows (IOB1, which the reader of tags turns)."""
    parts = [
        _table(folder / "conll2003" / file, Conll(), tokens="tokens", tags="tags")
        for file in ("train.txt.gz", "test_original.txt", "dev.txt")
    ]
    return TextSet("conll2003", *parts)


def _wnut17(folder: Path) -> TextSet:
    parts = [
        _table(folder / "wnut17" / file, Conll(), tokens="tokens", tags="tags")
        for file in ("wnut17train.conll", "emerging.test.annotated", "emerging.dev.conll")
    ]
    return TextSet("wnut17", *parts)


def _resume(folder: Path) -> TextSet:
    """Chinese resumes: each character is a word."""
    parts = [
        _table(folder / "resume_ner_zh" / f"{part}.char.bmes", Conll(), tokens="tokens", tags="tags")
        for part in ("train", "test", "dev")
    ]
    return TextSet("resume_ner_zh", *parts)


def _ewt(folder: Path) -> TextSet:
    """UD English-EWT: universal parts of speech of the given words."""
    parts = [
        _table(folder / "ud_english_ewt" / f"en_ewt-ud-{part}", Conllu(), tokens="tokens", tags="upos")
        for part in ("train.conllu.gz", "test.conllu", "dev.conllu")
    ]
    return TextSet("ud_english_ewt", *parts)


def _squadshifts(folder: Path) -> TextSet:
    """The new Wikipedia questions of SQuADShifts; no article has rows on both sides."""
    file = folder / "squadshifts" / "new_wiki_v1.0.json.gz"
    names = ("question", "context", "answers", "title")
    rows = _table(file, Squad(), **{name: name for name in names})
    held_out = set(sorted({row["title"] for row in rows})[::ARTICLES_PER_HELD_OUT])
    train = [row for row in rows if row["title"] not in held_out]
    return TextSet("squadshifts", train, [row for row in rows if row["title"] in held_out])


def _subjqa(folder: Path) -> TextSet:
    """SubjQA about restaurants; the annotations of one question on one review are its answers, none where no one
    found any.
    """

    def read(part: str) -> Rows:
        file = folder / "subjqa" / "restaurants" / part
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        with (gzip.open if file.suffix == ".gz" else open)(
            file, "rt", encoding="utf-8", newline=""
        ) as stream:
            for line in csv.DictReader(stream):
                context, mark, _ = line["review"].rpartition(_NO_ANSWER)
                if not mark:
                    raise SystemExit(f"{file}: a review does not end with {_NO_ANSWER}")
                row = {"question": line["question"], "context": context, "answers": []}
                row = rows.setdefault((line["question"], context), row)
                if line["human_ans_spans"] != _NO_ANSWER:
                    start, end = ast.literal_eval(line["human_ans_indices"])
                    row["answers"].append({"text": context[start:end], "answer_start": start})
        return list(rows.values())

    return TextSet("subjqa", read("train.csv.gz"), read("test.csv"), read("dev.csv"))


_READERS = {
    "sst2": _sst2,
    "sst2_test": _sst2_test,
    "trec": _trec,
    "banking77": _banking77,
    "chnsenticorp": _chnsenticorp,
    "cola": _cola,
    "mrpc": _mrpc,
    "rte": _rte,
    "stsb": _stsb,
    "goemotions": _goemotions,
    "conll2003": _conll2003,
    "wnut17": _wnut17,
    "resume_ner_zh": _resume,
    "ewt": _ewt,
    "squadshifts": _squadshifts,
    "subjqa": _subjqa,
}
NAMES = tuple(_READERS)
