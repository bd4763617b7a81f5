"""Between characters of a context and tokens of its windows: where answers are, and which spans are likely."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from graftlm.data.answers import Answer
from graftlm.data.features import Features, Outputs

NO_ANSWER = 0
"""The token that start and end point to in a window without an answer: the first, which is never the context's."""
SEARCHED = 20
"""Spans of each window that are looked at, as in the evaluation of BERT."""


@dataclass(frozen=True)
class ScoredSpan:
    """Characters from ``start`` up to ``end`` of a context, and the sum of the two outputs."""

    start: int
    end: int
    value: float


@dataclass(frozen=True)
class RowSpans:
    """What the windows of one row say together.

    Args:
        spans: the likely ones, the best first; none where no token of the context remained.
        no_answer: the smallest sum of the outputs of the first token: an answer in one window is one in all.
    """

    spans: list[ScoredSpan]
    no_answer: float

    @property
    def margin(self) -> float:
        """By how much "no answer" beats the best span."""
        return self.no_answer - self.spans[0].value if self.spans else 0.0


def token_positions(answers: Sequence[Sequence[Answer]], features: Features) -> NDArray[np.int64]:
    """Return the first and the last token of the answer in each window [examples, 2].

    Of several answers the first that has a position counts. A window that does not hold the whole answer gets
    `NO_ANSWER` twice.

    Args:
        answers: of each row.
        features: windows of the rows.
    """
    positions = np.full((len(features), 2), NO_ANSWER, dtype=np.int64)
    for example, (row, spans) in enumerate(zip(features.rows, features.spans, strict=True)):
        placed = next(((text, start) for text, start in answers[row] if start is not None), None)
        if placed is None:
            continue
        text, start = placed
        begin = start + len(text) - len(text.lstrip())
        end = start + len(text.rstrip())
        # A tokenizer that drops accents has no token for them: the last letter is what the window must hold.
        letters_end = end
        while letters_end > begin + 1 and unicodedata.category(text[letters_end - start - 1]).startswith("M"):
            letters_end -= 1
        tokens = np.flatnonzero(spans[:, 0] >= 0)
        begins, ends = spans[tokens, 0], spans[tokens, 1]
        if len(tokens) and begins[0] <= begin and letters_end <= ends[-1]:
            first = int(np.searchsorted(ends, begin, side="right"))
            last = int(np.searchsorted(begins, end, side="left")) - 1
            if first <= last:
                positions[example] = tokens[first], tokens[last]
    return positions


def likely_spans(
    outputs: Outputs, features: Features, contexts: Sequence[str], max_answer_tokens: int
) -> list[RowSpans]:
    """Return the spans with the largest sums of start and end output, over all windows of each row.

    Within a window every pair of start and end is looked at, not only those among the largest starts and ends.

    Args:
        outputs: of each window [tokens, 2].
        features: windows of the rows.
        contexts: of each row.
        max_answer_tokens: longer spans are no answers.
    """
    found: list[dict[tuple[int, int], float]] = [{} for _ in contexts]
    no_answer = np.full(len(contexts), np.inf)
    for row, spans, output in zip(features.rows, features.spans, outputs, strict=True):
        values = np.asarray(output, dtype=np.float64)
        no_answer[row] = min(no_answer[row], values[NO_ANSWER].sum())
        best = found[row]
        for (start, end), value in _best_of_window(values, spans, max_answer_tokens):
            start, end = _whole_letters(contexts[row], start, end)
            if start < end:
                best[start, end] = max(value, best.get((start, end), -np.inf))
    return [
        RowSpans(
            [
                ScoredSpan(start, end, value)
                for (start, end), value in sorted(best.items(), key=lambda item: (-item[1], item[0]))[
                    :SEARCHED
                ]
            ],
            float(none),
        )
        for best, none in zip(found, no_answer, strict=True)
    ]


def _best_of_window(
    values: NDArray[np.float64], spans: NDArray[np.int32], max_answer_tokens: int
) -> list[tuple[tuple[int, int], float]]:
    tokens = np.flatnonzero(spans[:, 0] >= 0)
    if not len(tokens):
        return []
    width = min(max_answer_tokens, len(tokens))
    ends = np.concatenate([values[tokens, 1], np.full(width - 1, -np.inf)])
    sums = (values[tokens, 0][:, None] + sliding_window_view(ends, width)).ravel()
    likely = np.argpartition(-sums, min(SEARCHED, len(sums)) - 1)[:SEARCHED]
    return [
        (
            (int(spans[tokens[at // width], 0]), int(spans[tokens[at // width + at % width], 1])),
            float(sums[at]),
        )
        for at in likely.tolist()
        if np.isfinite(sums[at])
    ]


def _whole_letters(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span without space at its ends, which some tokenizers count among the characters of a word.

    Others drop combining marks, such as the vowel signs of Hindi: those of the last letter are part of the span.
    """
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
