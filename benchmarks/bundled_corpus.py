"""The text that the bundled base models were pretrained on, one document a row.

    python benchmarks/bundled_corpus.py corpus

makes ``english.jsonl`` (47 novels of 1849-1920, the WikiText-2 articles of validation and test, MASC, Tiny Shakespeare)
and ``chinese.jsonl`` (the chapters of four classic novels) from the public data sets. Lines that were wrapped become
paragraphs; WikiText and MASC, which have white space around punctuation, get ordinary writing; sentences of WikiText in
which a rare word was struck out (``<unk>``) are left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path

from data_sets import shared_data

_CHAPTER = re.compile(r"^(?=第[一二三四五六七八九十百零]+回 )", re.MULTILINE)
_TITLE = re.compile(r"^ = [^=].*[^=] = $", re.MULTILINE)
_ATTACHED = (
    (re.compile(r" @(.)@ "), r"\1"),
    (re.compile(r" (n't|'(?:s|re|ve|d|m|ll)\b)"), r"\1"),
    (re.compile(r"([(\[$£]) "), r"\1"),
    (re.compile(r" ([,.;:!?)\]%])"), r"\1"),
    (re.compile(r"(\w)- (?=\w)"), r"\1-"),
    (re.compile(r'" ([^"\n]*?) "'), r'"\1"'),
)


def ordinary(text: str) -> str:
    """Return text whose tokens were set apart by white space as it is usually written."""
    for apart, together in _ATTACHED:
        text = apart.sub(together, text)
    return text


def paragraphs(text: str) -> str:
    """Return text whose paragraphs, divided by blank lines, are one line each."""
    blocks = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\ufeff", ""))
    return "\n".join(" ".join(block.split()) for block in blocks if block.strip())


def articles(text: str) -> Iterator[str]:
    """Yield the articles of a WikiText file without headings and without sentences that hold an unknown word."""
    starts = [match.start() for match in _TITLE.finditer(text)] + [len(text)]
    for start, end in pairwise(starts):
        lines = (line.strip() for line in text[start:end].split("\n"))
        kept = (
            " ".join(
                sentence for sentence in re.split(r"(?<= [.!?]) (?=[A-Z\"])", line) if "<unk>" not in sentence
            )
            for line in lines
            if line and not line.startswith("=")
        )
        yield ordinary("\n".join(line for line in kept if line))


def content(file: Path) -> str:
    """Return the text of a file, which may be there compressed only."""
    if file.exists():
        return file.read_text(encoding="utf-8")
    return gzip.decompress(file.with_name(file.name + ".gz").read_bytes()).decode("utf-8")


def wikitext(folder: Path) -> Iterator[str]:
    """Yield the articles of WikiText-2's validation and test, one paragraph a line."""
    for name in ("valid.txt", "test.txt"):
        yield from articles(content(folder / "wikitext2_valid_test" / name))


def masc(folder: Path) -> Iterator[str]:
    """Yield the documents of MASC, one sentence a line."""
    rows = [
        line.split("\t", 2)
        for line in content(folder / "masc_text" / "masc_sentences.tsv").split("\n")[1:]
        if line
    ]
    for _, sentences in groupby(rows, key=lambda row: row[:2]):
        yield "\n".join(ordinary(text) for _, _, text in sentences)


def english(folder: Path) -> Iterator[str]:
    """Yield the English documents."""
    for file in sorted((folder / "english_novels").glob("*.txt.gz")):
        yield paragraphs(content(file.with_suffix("")))
    yield from wikitext(folder)
    yield from masc(folder)
    yield content(folder / "tiny_shakespeare" / "input.txt")


def chinese(folder: Path) -> Iterator[str]:
    """Yield the Chinese documents: chapters, since a whole novel is too much to be held out."""
    for name in ("honglou_meng", "sanguo_yanyi", "shuihu_zhuan", "xiyou_ji"):
        yield from _CHAPTER.split(paragraphs(content(folder / "chinese_classics" / f"{name}.txt")))


def write(file: Path, documents: Iterable[str]) -> None:
    """Write one document a row and say how much it is."""
    count = characters = 0
    with file.open("w", encoding="utf-8") as lines:
        for text in documents:
            if text.strip():
                lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                count, characters = count + 1, characters + len(text)
    print(f"{file}: {count:,} documents, {characters:,} characters")


def main() -> None:
    """Write both corpora."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the corpora are written")
    parser.add_argument(
        "--shared-data", help="folder of the data sets; default: GRAFTLM_SHARED_DATA or ../shared/data"
    )
    arguments = parser.parse_args()
    source = shared_data(arguments.shared_data)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write(arguments.folder / "english.jsonl", english(source))
    write(arguments.folder / "chinese.jsonl", chinese(source))


if __name__ == "__main__":
    main()
