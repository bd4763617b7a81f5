"""Examples cut from a corpus, and what is made of them each time they are visited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption.flat import ragged
from graftlm.data.corruption.uniforms import Keys, corruption_keys
from graftlm.data.features import IGNORED
from graftlm.data.ragged import Ragged
from graftlm.errors import DataError
from graftlm.kernels.sending import sent
from graftlm.training.batching import Batch

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cut:
    """Where the texts of examples stand in a corpus.

    Args:
        starts: first token of each text of each example, [examples, texts].
        ends: the token behind it, [examples, texts].
        lengths: tokens of each example as the model reads it, [examples].
        in_order: of two texts, whether the second belongs behind the first, bool [examples]; None for one text.
    """

    starts: Places
    ends: Places
    lengths: Places
    in_order: NDArray[np.bool_] | None = None

    @classmethod
    def joined(cls, parts: Iterable[Cut]) -> Cut:
        """Return the examples of all parts, one at least."""
        columns: list[list[NDArray[Any]]] = [[], [], [], []]
        for part in parts:
            for column, values in zip(
                columns, (part.starts, part.ends, part.lengths, part.in_order), strict=True
            ):
                if values is not None:
                    column.append(values)
        whole: list[NDArray[Any] | None] = []
        for column in columns:  # each is given up before the next is joined: there may be tens of millions
            whole.append(np.concatenate(column) if column else None)
            column.clear()
        return cls(*whole)  # pyright: ignore[reportArgumentType]

    def take(self, rows: Places) -> Cut:
        """Return some of the examples."""
        order = None if self.in_order is None else self.in_order[rows]
        return Cut(self.starts[rows], self.ends[rows], self.lengths[rows], order)


@dataclass(frozen=True, eq=False)
class Made:
    """What a model reads of some examples, and what it should say.

    Args:
        inputs: model argument name -> integers of each example.
        targets: tokens; at the places of the inputs, or of what is written, `IGNORED` where nothing is asked.
        judged: 0 at the tokens of the inputs that are judged, `IGNORED` at all others; None where none is.
        chances: what decides which tokens are drawn, float32 [targets, decisions]; None where none is.
    """

    inputs: Mapping[str, Ragged]
    targets: Ragged
    judged: Ragged | None = None
    chances: NDArray[np.float32] | None = None


Cutting = Callable[[int, bool], Cut]
"""Number of a pass, and whether examples are to be short -> the examples."""
Making = Callable[[Cut, list[Ragged], Keys, float], Made]
"""Examples, their texts, their keys, how far the run has come (0 to 1) -> what the model reads and says."""


@dataclass(frozen=True, eq=False)
class CorpusExamples:
    """A `graftlm.training.batching.Source` over a corpus; only the tokens of a batch are read from it.

    Args:
        corpus: its tokens.
        cutting: which examples a pass has.
        making: what becomes of them.
        seed: of the run.
        padding: model argument name -> what fills rows up.
        number: of the pass.
        progress: how far the run has come, 0 to 1.
        cut: the examples of the pass; None until one is chosen.
    """

    corpus: TokenCorpus
    cutting: Cutting
    making: Making
    seed: int
    padding: Mapping[str, int]
    number: int = 0
    progress: float = 0.0
    cut: Cut | None = None

    @property
    def pass_cut(self) -> Cut:
        """The examples of the pass."""
        return self.cutting(self.number, False) if self.cut is None else self.cut

    @property
    def lengths(self) -> Places:
        """Tokens of each example, [examples]."""
        return self.pass_cut.lengths

    def in_pass(self, number: int, short: bool = False) -> CorpusExamples:
        """Return the examples of a pass."""
        return replace(self, number=number, cut=self.cutting(number, short))

    def at(self, progress: float) -> CorpusExamples:
        """Return the same examples when the run has come so far, 0 to 1."""
        return replace(self, progress=progress)

    def batch(self, rows: Places, device: torch.device) -> Batch:
        """Return these examples, padded, on the device."""
        made, cut = self._made(rows), self.pass_cut
        inputs = {
            name: sent(_padded(values, self.padding[name]), device) for name, values in made.inputs.items()
        }
        real = _padded(_ones(made.inputs["input_ids"]), 0)
        inputs["attention_mask"] = sent(real, device)
        order = (
            None
            if cut.in_order is None
            else sent(torch.from_numpy(cut.in_order[rows].astype(np.int64)), device)
        )
        targets = sent(_padded(made.targets, IGNORED), device)
        judged = None if made.judged is None else sent(_padded(made.judged, IGNORED), device)
        chances = None if made.chances is None else sent(torch.from_numpy(made.chances), device)
        return Batch(inputs, targets, rows, real, True, order, judged, chances)

    def targets_of(self, rows: Places) -> dict[str, Tensor]:
        """Return the targets of these examples, as objectives weigh them."""
        order, made = self.pass_cut.in_order, self._made(rows)
        targets = {TOKENS: torch.from_numpy(made.targets.values.astype(np.int64))}
        if order is not None:
            targets[PAIRS] = torch.from_numpy(order[rows].astype(np.int64))
        if made.judged is not None:
            targets[REPLACED] = torch.from_numpy(made.judged.values.astype(np.int64))
        return targets

    def documents(self) -> Places:
        """Return which document each example is of, [examples]."""
        return np.searchsorted(self.corpus.document_starts, self.pass_cut.starts[:, 0], side="right") - 1

    def _made(self, rows: Places) -> Made:
        cut = self.pass_cut.take(rows)
        texts = [
            Ragged.of([self.corpus.window(start, end) for start, end in zip(*ends, strict=True)])
            for ends in zip(cut.starts.T.tolist(), cut.ends.T.tolist(), strict=True)
        ]
        # Where an example begins says which it is: its text decides what chance does to it, not its number.
        keys = corruption_keys(self.seed, self.number, cut.starts[:, 0])
        return self.making(cut, texts, keys, self.progress)


TOKENS, PAIRS, REPLACED = "tokens", "pairs", "replaced"
"""What is said: tokens of the vocabulary, whether the second text of a pair belongs behind the first, and whether a
token stands in the place of another."""


def windows(document_starts: Places, room: int, special: int, fewest: int = 1) -> Cut:
    """Cut each document into windows, one behind the other.

    Args:
        document_starts: first token of each document, and the end of the last, [documents + 1].
        room: tokens of a window.
        special: tokens that the model reads beside them.
        fewest: what is left at the end of a document and is shorter is left out.
    """
    sizes = np.diff(document_starts)
    counts = -(-sizes // room)
    # Of a corpus larger than memory there are tens of millions: each array more would count.
    starts = np.arange(counts.sum(), dtype=np.int64) * room
    starts += np.repeat(document_starts[:-1] - (np.cumsum(counts) - counts) * room, counts)
    ends = np.repeat(document_starts[1:], counts)
    np.minimum(ends, starts + room, out=ends)
    kept = ends - starts >= fewest
    if not kept.all():
        starts, ends = starts[kept], ends[kept]
    return Cut(starts[:, None], ends[:, None], ends - starts + special)


def require_examples(examples: CorpusExamples, short: bool) -> None:
    """Refuse a corpus of which nothing can be learnt: a pass over it would never come to an end.

    Args:
        examples: that are trained on.
        short: whether examples are to be short at first.

    Raises:
        DataError: no document is long enough for an example.
    """
    if not len(examples.in_pass(0).lengths):
        raise DataError(
            "no document is long enough for an example of this objective",
            where="corpus",
            fix="see what a document is (corpus.document), allow longer examples (training.max_length_tokens), or "
            "leave out objective.pairs, which needs documents of two sentences",
        )
    if short and not len(examples.in_pass(0, short=True).lengths):
        raise DataError(
            "a quarter of training.max_length_tokens is too short for an example of this objective",
            where="training.short_share",
            fix="set it to 0, or training.max_length_tokens higher",
        )


def _ones(rows: Ragged) -> Ragged:
    return Ragged(np.ones_like(rows.values), rows.starts)


def _padded(rows: Ragged, fill: int) -> Tensor:
    """Return rows as one tensor [rows, longest], each filled up on the right."""
    lengths = rows.lengths
    padded = np.full((len(rows), int(lengths.max(initial=1))), fill, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = rows.values
    return torch.from_numpy(padded)


def surrounded(texts: list[Ragged], parts: tuple[tuple[int, ...], ...]) -> Ragged:
    """Return the texts of each example one behind the other, with special tokens before, between and behind them."""
    count = len(texts[0])
    columns: list[tuple[NDArray[np.int32], Places]] = []
    for index, part in enumerate(parts):
        columns.append((np.tile(np.array(part, dtype=np.int32), count), np.full(count, len(part))))
        if index < len(texts):
            columns.append((texts[index].values, texts[index].lengths))
    lengths = np.stack([each for _, each in columns], axis=1)
    total = lengths.sum(axis=1)
    # Each piece goes to where the pieces before it in its example end.
    before = (np.cumsum(total) - total)[:, None] + np.cumsum(lengths, axis=1) - lengths
    values = np.empty(int(total.sum()), dtype=np.int32)
    for (piece, sizes), first in zip(columns, before.T, strict=True):
        at = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(piece))
        values[at] = piece
    return ragged(values, total)
