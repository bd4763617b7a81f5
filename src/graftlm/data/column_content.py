"""What the values of a column look like, from a sample of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SAMPLE_ROWS = 5000
_LONGEST_LABEL = 60
# Letters of any script; a column of dates, prices or numbers has none or few.
_LETTERS = re.compile(r"[^\W\d_]")
_IDENTIFIER = re.compile(r"[\x21-\x7e]+")
_FRACTION = re.compile(r"\s*[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?\s*")
# Money, per cent, thousands and decimals as people write them; a number to a reader, and to nobody else.
_WRITTEN_NUMBER = re.compile(r"\s*[+-]?[$€£¥]?\s?\d+([., \u00a0\u202f']\d{3})*([.,]\d+)?\s?[$€£¥%]?\s*")
_DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?")


@dataclass(frozen=True)
class ColumnContent:
    """A column in figures, over the rows looked at that hold a value.

    Args:
        rows: how many were looked at.
        distinct: how many different values they hold.
        mean_length: characters per value.
        label_like: a few short values that repeat.
        text_like: strings that mostly differ and read as language rather than as identifiers.
        numbers: nearly all are numbers; what is wrong with the others is said when they are read.
        numbers_with_fraction: nearly all are numbers, and at least one is not whole.
        written_numbers: nearly all would be numbers without signs of money, per cent and thousands, or with a point
            in place of a comma.
        lists: every value is a list.
    """

    rows: int
    distinct: int
    mean_length: float
    label_like: bool
    text_like: bool
    numbers: bool
    numbers_with_fraction: bool
    written_numbers: bool
    lists: bool

    def fits(self, kind: str) -> bool:
        """Whether the column could play a role of this kind; texts are a matter of comparison instead."""
        if kind in ("label_set", "words", "tags", "entities", "answers", "messages"):
            return self.lists
        return {"label": self.label_like, "number": self.numbers_with_fraction}.get(kind, False)

    def reason(self, kind: str) -> str:
        """Say in a few words why the column fits its role."""
        if self.lists:
            return "it holds lists"
        longest = f"the longest text, {self.mean_length:.0f} characters on average"
        return {
            "label": f"it repeats {self.distinct} short values",
            "number": f"it holds {self.distinct} different numbers",
            "text": longest,
            "words": longest,
            "target": longest,
        }[kind]


def describe_content(values: Sequence[object]) -> ColumnContent:
    """Look at up to 5,000 rows spread evenly over a column."""
    step = max(1, len(values) // _SAMPLE_ROWS)
    sample = [value for value in values[::step] if value is not None and value != ""]
    words = [str(value) for value in sample]
    distinct = len(set(words))
    scalar = all(isinstance(value, str | int) for value in sample)
    numbers = nearly_all(map(_is_number, sample))
    fractions = numbers and any(map(_has_fraction, sample))
    written = not numbers and nearly_all(isinstance(value, str) and _is_written(value) for value in sample)
    return ColumnContent(
        rows=len(sample),
        distinct=distinct,
        mean_length=sum(map(len, words)) / max(1, len(words)),
        label_like=scalar
        and 2 <= distinct <= len(words) // 2
        and max(map(len, words), default=0) <= _LONGEST_LABEL
        and not fractions
        and not written
        and not all(map(_DATE.fullmatch, words)),
        text_like=bool(sample)
        and all(isinstance(value, str) for value in sample)
        and distinct * 2 >= len(words)
        and sum(map(_reads_as_language, words)) * 10 >= len(words) * 8,
        numbers=numbers,
        numbers_with_fraction=fractions,
        written_numbers=written,
        lists=bool(sample) and all(isinstance(value, list | tuple) for value in sample),
    )


def nearly_all(fits: Iterable[bool]) -> bool:
    """Whether nine of ten fit, of one at least: a few bad rows do not change what a column is for."""
    answers = list(fits)
    return bool(answers) and sum(answers) * 10 >= len(answers) * 9


def _reads_as_language(word: str) -> bool:
    return len(_LETTERS.findall(word[:200])) >= 2 and not _IDENTIFIER.fullmatch(word[:200])


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return bool(_FRACTION.fullmatch(value)) or value.strip().lstrip("+-").isdecimal()
    return isinstance(value, int | float)


def _is_written(value: str) -> bool:
    return bool(_WRITTEN_NUMBER.fullmatch(value)) and not _DATE.fullmatch(value)


def _has_fraction(value: object) -> bool:
    if isinstance(value, str):
        return bool(_FRACTION.fullmatch(value)) and not float(value).is_integer()
    return isinstance(value, float) and not value.is_integer()
