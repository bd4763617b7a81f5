"""ROUGE-1, -2, -L and -Lsum of each row.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004, by the rules of the package rouge-score.
ROUGE-1 and -2 and the words of English are its own. Its table of common subsequences is filled cell by cell in Python,
which takes 40 seconds for 1,000 rows of 300 words; here it is filled row by row, with the same outcome to the last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.writing_systems import Scoring, words_of

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
Words = Sequence[str]


def rouge_scores(texts: Sequence[str], references: Sequence[str], scoring: Scoring) -> NDArray[np.float64]:
    """Return F1 of each row, 0 to 1, [rows, 4] in the order of `ROUGE`; 0 where a side has no words.

    Sentences of ROUGE-Lsum are what stands between newlines.
    """
    # Loaded here, because nltk behind it takes two seconds and most runs score no texts.
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _Tokenizer(scoring)
    scorer: Any = RougeScorer(["rouge1", "rouge2"], tokenizer=tokenizer)
    rows = np.zeros((len(texts), len(ROUGE)))
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        grams = scorer.score(reference, text)
        wanted, given = (
            [tokenizer.tokenize(line) for line in each.split("\n")] for each in (reference, text)
        )
        rows[row] = (
            grams["rouge1"].fmeasure,
            grams["rouge2"].fmeasure,
            _longest(list(chain.from_iterable(wanted)), list(chain.from_iterable(given))),
            _longest_of_sentences(wanted, given),
        )
    return rows


def rouge_signature(scoring: Scoring) -> str:
    """Return what to report beside the values, in the manner of sacreBLEU."""
    words = {
        "english": "a-z0-9|stem:porter",
        "words": "unicode-words|stem:no",
        "characters": "characters|stem:no",
    }
    return f"f:1|mean:rows|lsum:newline|tok:{words[scoring]}|version:rouge-score.{version('rouge-score')}"


class _Tokenizer:
    """Words of a text, as rouge-score asks for them; each different word is stemmed once."""

    def __init__(self, scoring: Scoring) -> None:
        from nltk.stem.porter import PorterStemmer
        from rouge_score.tokenize import tokenize

        self._scoring: Scoring = scoring
        self._tokenize: Callable[[str, Any], list[str]] = tokenize
        self.stem: Callable[[str], str] = cache(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """Return the words that count."""
        # rouge-score drops all but a-z and 0-9: of Chinese nothing is left, of "Müller" two pieces.
        return self._tokenize(text, self) if self._scoring == "english" else words_of(text, self._scoring)


def _longest(wanted: Words, given: Words) -> float:
    return _f1(_Table(wanted, given).length, len(wanted), len(given))


def _longest_of_sentences(wanted: Sequence[Words], given: Sequence[Words]) -> float:
    """Return ROUGE-Lsum: the words of each wanted sentence that some given sentence has in this order.

    A word counts as often as both texts hold it, at most.
    """
    left = [Counter(word for words in sentences for word in words) for sentences in (wanted, given)]
    sizes = [counts.total() for counts in left]
    hits = 0
    for sentence in wanted:
        found = set[int]().union(*(_Table(sentence, other).positions() for other in given))
        for word in (sentence[position] for position in sorted(found)):
            if all(counts[word] > 0 for counts in left):
                hits += 1
                for counts in left:
                    counts[word] -= 1
    return _f1(hits, *sizes)


def _f1(hits: int, wanted: int, given: int) -> float:
    if not hits:
        return 0.0
    precision, recall = hits / given, hits / wanted
    return 2 * precision * recall / (precision + recall)


class _Table:
    """Lengths of the longest common subsequences of the first i words of one and the first j of another text.

    From one j to the next the length grows by 0 or 1, so a row of the table is a number whose bit j - 1 says whether
    it does. Source: Hyyro, Bit-Parallel LCS-length Computation Revisited, 2004 (here 1 is growth; there it is 0).
    """

    def __init__(self, wanted: Words, given: Words) -> None:
        self._wanted, self._given = wanted, given
        every = (1 << len(given)) - 1
        places: dict[str, int] = {}
        for position, word in enumerate(given):
            places[word] = places.get(word, 0) | 1 << position
        flat = every
        self._rows = [0]
        for word in wanted:
            here = flat & places.get(word, 0)
            flat = ((flat + here) | (flat - here)) & every
            self._rows.append(flat ^ every)

    @property
    def length(self) -> int:
        """Of the whole texts."""
        return self._rows[-1].bit_count()

    def positions(self) -> list[int]:
        """Return where the first text has the words of the subsequence that rouge-score finds among the longest."""
        found: list[int] = []
        i, j = len(self._wanted), len(self._given)
        while i and j:
            first = (1 << j) - 1
            if self._wanted[i - 1] == self._given[j - 1]:
                found.append(i - 1)
                i, j = i - 1, j - 1
            elif (self._rows[i - 1] & first).bit_count() < (self._rows[i] & first).bit_count():
                j -= 1
            else:
                i -= 1
        return found
