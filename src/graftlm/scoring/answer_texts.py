"""When two answers count as the same: normalisation, exact match and overlap of words.

Source: the evaluation scripts of SQuAD 1.1 (Rajpurkar et al. 2016), SQuAD 2.0 (Rajpurkar et al. 2018) and, with a
language, MLQA (Lewis et al. 2020).
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

_ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "ال",
}
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


def normalised_words(text: str, language: str | None) -> list[str]:
    """Return the words that count, in lower case, without punctuation and articles.

    Args:
        text: an answer.
        language: en, es, hi, vi, de, ar or zh for the rules of MLQA (punctuation of all scripts, articles of the
            language, Chinese by character); None for those of SQuAD (ASCII punctuation, English articles).
    """
    text = text.lower().translate(_ASCII_PUNCTUATION if language is None else _all_punctuation())
    articles = _ARTICLES.get(language or "en")
    if articles is not None:
        text = re.sub(articles, " ", text)
    if language == "zh":
        text = _IDEOGRAPH.sub(r" \1 ", text)
    return text.split()


@cache
def _all_punctuation() -> dict[int, None]:
    every = range(sys.maxunicode + 1)
    marks = [code for code in every if unicodedata.category(chr(code)).startswith("P")]
    return dict.fromkeys([*marks, *map(ord, string.punctuation)])


def answer_scores(
    answer: str, references: Sequence[str], language: str | None, may_lack: bool
) -> tuple[float, float]:
    """Return exact match (0 or 1) and F1 of the words, each the best over the references.

    Args:
        answer: predicted; empty for none.
        references: right answers; none where the context holds none.
        language: see `normalised_words`.
        may_lack: the rules of SQuAD 2.0, for data in which answers may lack: a reference without a word counts as
            none, and where one side has no words F1 is 1 if the other has none. Under those of 1.1 it is 0.
    """
    given = normalised_words(answer, language)
    wanted = [normalised_words(reference, language) for reference in references]
    if may_lack:
        wanted = [words for words in wanted if words] or [[]]
    return (
        max((float(given == words) for words in wanted), default=0.0),
        max((_overlap(given, words, may_lack) for words in wanted), default=0.0),
    )


def _overlap(given: Sequence[str], wanted: Sequence[str], may_lack: bool) -> float:
    if not given or not wanted:
        return float(may_lack and not given and not wanted)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))
