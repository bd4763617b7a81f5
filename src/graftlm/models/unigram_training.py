"""Unigram vocabularies (Kudo 2018, arXiv:1804.10959): pieces of words with probabilities, found by EM and pruning.

The trainer of the library `tokenizers` sums over a hash map, so that near-ties fall either way and two runs on the same
texts can give two vocabularies. Here every sum has one order; on English novels the result also needs 3 % fewer tokens
at the same size, at the same cost. All segmentations of all words are one graph: positions are its nodes, pieces its
edges, and a pass takes the edges that end at the same distance from the beginning of their words at once.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

LONGEST_PIECE = 16
MOST_CHARACTERS = 2_000_000
"""Of different words, the most frequent ones; more are not learnt from. Bounds memory (1 GB) on any corpus."""
_LONGEST_WORD = 100
"""Longer runs, of scripts that write no spaces, are cut."""
_SEEDS = 20
"""Candidates to begin with, per piece that is wanted."""
_SHRINKING = 0.75
_USED = 0.5
"""Expected occurrences below which a candidate is dropped."""


def train_unigram(
    words: Mapping[str, int], characters: Sequence[str], size: int, min_frequency: int
) -> dict[str, float]:
    """Return piece -> log-probability, most probable first: ``size`` of them, or fewer where no more are of use.

    EM maximises sum over words of count * log(sum over segmentations of prod over pieces of probability). Between its
    rounds the pieces are dropped whose loss, expected occurrences * (log-probability - that of their best segmentation
    into others), is smallest.

    Args:
        words: occurrences of each; of ``characters`` alone.
        characters: are pieces whatever their frequency.
        size: of the vocabulary, more than there are characters.
        min_frequency: occurrences that a longer piece needs.
    """
    runs, room = Counter[str](), MOST_CHARACTERS
    for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        room -= len(word)
        if room < 0:
            break
        for start in range(0, len(word), _LONGEST_WORD):
            runs[word[start : start + _LONGEST_WORD]] += count
    seeds = _substrings(runs, min_frequency)
    best = sorted(seeds, key=lambda piece: (-seeds[piece] * len(piece), piece))[: _SEEDS * size]
    pieces = [*characters, *best]
    required = np.arange(len(pieces)) < len(characters)
    singles = Counter[str]()
    for run, count in runs.items():
        for character in run:
            singles[character] += count
    # As in SentencePiece: frequency times length, which favours long candidates.
    expected = np.array(
        [
            *(float(singles[piece]) for piece in characters),
            *(float(seeds[piece] * len(piece)) for piece in best),
        ]
    )
    index = {piece: number for number, piece in enumerate(pieces)}
    segmentations = _Graph.of(list(runs), index, whole=True)
    alternatives = _Graph.of(pieces, index, whole=False)
    counts = np.array(list(runs.values()), dtype=np.float64)
    alive = np.ones(len(pieces), dtype=np.bool_)
    last = False
    while True:
        for _ in range(2):
            scores = _log_probabilities(expected, alive)
            expected = segmentations.expected(scores, counts)
            if not last:
                alive &= required | (expected >= _USED)
                segmentations = segmentations.kept(alive)
        scores = _log_probabilities(expected, alive)
        living = int(alive.sum())
        if living <= size:
            break
        alternatives = alternatives.kept(alive, strings=alive)
        loss = expected * (scores - alternatives.best(scores))
        loss[required] = np.inf
        loss[~alive] = -np.inf
        wanted = max(size, int(_SHRINKING * living))
        last = wanted == size
        alive = np.zeros_like(alive)
        alive[np.argsort(-loss, kind="stable")[:wanted]] = True
        segmentations = segmentations.kept(alive)
    found = ((round(float(scores[number]), 6), pieces[number]) for number in np.flatnonzero(alive))
    return {piece: score for score, piece in sorted(found, key=lambda pair: (-pair[0], pair[1]))}


def _substrings(words: Mapping[str, int], min_frequency: int) -> dict[str, int]:
    """Return the substrings of 2 to `LONGEST_PIECE` characters that are frequent enough, with their occurrences."""
    found = dict[str, int]()
    frequent: set[str] | None = None
    for length in range(2, LONGEST_PIECE + 1):
        counts, longer = Counter[str](), dict[str, int]()
        for word, count in words.items():
            for start in range(len(word) - length + 1):
                piece = word[start : start + length]
                # No string is more frequent than what it begins and ends with: this bounds memory.
                if frequent is None or (piece[1:] in frequent and piece[:-1] in frequent):
                    counts[piece] += count
                    longer[word] = count
        words, frequent = longer, {piece for piece, count in counts.items() if count >= min_frequency}
        found |= {piece: counts[piece] for piece in frequent}
    return found


def _log_probabilities(expected: NDArray[np.float64], alive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return exp(E[log p]) normalised of a sparse Dirichlet posterior, as SentencePiece does: digamma for log."""
    used = np.where(alive, np.maximum(expected, _USED), 0.0)
    total = torch.tensor(used.sum(), dtype=torch.float64)
    scores = torch.digamma(torch.from_numpy(np.maximum(used, _USED))) - torch.digamma(total)
    return np.round(cast("NDArray[np.float64]", scores.numpy()), 9)


@dataclass(frozen=True)
class _Edges:
    """The edges in the order in which a pass meets them [edges]: by level, then by the node that they lead to."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    piece: NDArray[np.int32]
    level: NDArray[np.int32]

    def kept(self, mask: NDArray[np.bool_]) -> _Edges:
        return _Edges(self.source[mask], self.target[mask], self.piece[mask], self.level[mask])

    def values(self, scores: NDArray[np.float64], combine: np.ufunc, nodes: int) -> NDArray[np.float64]:
        """Return for each node ``combine`` over its edges of (value of their source + score), 0 where it has none."""
        values, weights = np.zeros(nodes), scores[self.piece]
        first = np.flatnonzero(np.diff(self.target, prepend=-1))
        levels = np.append(np.flatnonzero(np.diff(self.level, prepend=-1)), len(self.level))
        groups = np.searchsorted(first, levels)
        for (low, high), (begin, end) in zip(pairwise(levels), pairwise(groups), strict=True):
            arrived = values[self.source[low:high]] + weights[low:high]
            values[self.target[first[begin:end]]] = combine.reduceat(arrived, first[begin:end] - low)
        return values


@dataclass(frozen=True)
class _Graph:
    """All segmentations of strings.

    Args:
        forward: the edges from the beginning of each string on.
        backward: the same edges from the end of each string back.
        owner: string of each node [nodes].
        last: node at the end of each string [strings].
    """

    forward: _Edges
    backward: _Edges
    owner: NDArray[np.int32]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, strings: Sequence[str], index: Mapping[str, int], whole: bool) -> _Graph:
        """Enumerate the pieces in strings; without ``whole`` no string is its own only piece."""
        source, target, piece, start_level, end_level = (array("i") for _ in range(5))
        base = 0
        for string in strings:
            length = len(string)
            for start in range(length):
                for end in range(start + 1, min(start + LONGEST_PIECE, length) + 1):
                    number = index.get(string[start:end])
                    if number is not None and (whole or end - start < length):
                        source.append(base + start)
                        target.append(base + end)
                        piece.append(number)
                        start_level.append(_LONGEST_WORD - start)
                        end_level.append(end)
            base += length + 1
        lengths = np.array([len(string) + 1 for string in strings])
        begins, ends, numbers, leaving, arriving = (
            np.frombuffer(part, dtype=np.int32) for part in (source, target, piece, start_level, end_level)
        )
        onward, back = np.lexsort((ends, arriving)), np.lexsort((begins, leaving))
        return cls(
            _Edges(begins[onward], ends[onward], numbers[onward], arriving[onward]),
            _Edges(ends[back], begins[back], numbers[back], leaving[back]),
            np.repeat(np.arange(len(strings), dtype=np.int32), lengths),
            np.cumsum(lengths) - 1,
        )

    def kept(self, pieces: NDArray[np.bool_], strings: NDArray[np.bool_] | None = None) -> _Graph:
        """Return the graph without the edges of other pieces and of other strings."""

        def some(edges: _Edges) -> _Edges:
            mask = pieces[edges.piece]
            return edges.kept(mask if strings is None else mask & strings[self.owner[edges.source]])

        return _Graph(some(self.forward), some(self.backward), self.owner, self.last)

    def expected(self, scores: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how often each piece occurs in random segmentations of ``counts`` strings each [pieces]."""
        before = self.forward.values(scores, np.logaddexp, len(self.owner))
        behind = self.backward.values(scores, np.logaddexp, len(self.owner))
        edges, owner = self.forward, self.owner[self.forward.source]
        inside = before[edges.source] + scores[edges.piece] + behind[edges.target]
        shares = np.exp(inside - before[self.last[owner]]) * counts[owner]
        found: NDArray[Any] = np.bincount(edges.piece, weights=shares, minlength=len(scores))
        return found

    def best(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-probability of the best segmentation of each string [strings]."""
        return self.forward.values(scores, np.maximum, len(self.owner))[self.last]
