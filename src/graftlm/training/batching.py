"""Tokenised examples, the order in which they are visited, and padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftlm.data.features import IGNORED, Features, Targets
from graftlm.data.ragged import lengths_of
from graftlm.kernels.sending import sent
from graftlm.training.randomness import generator

# Length-grouped order sorts within stretches of this many batches: long enough to save most padding, short enough
# (an eighth of a small epoch) that the composition of a batch still changes from epoch to epoch.
_GROUPED_BATCHES = 50


@dataclass(frozen=True)
class Batch:
    """Padded inputs of some examples.

    Args:
        inputs: model argument name -> tensor [examples, tokens]; ``attention_mask`` marks real tokens.
        targets: [examples], [examples, outputs] or [examples, tokens]; None where there are none.
        rows: positions of the examples in their split.
        real: the attention mask once more, on the CPU, where nobody has to wait for it.
        written: whether the targets are tokens of the vocabulary, see `Examples`.
        in_order: where the inputs are two segments, whether the second belongs behind the first, int64 [examples].
        judged: where tokens are judged, 0 at those and `IGNORED` at all others, int64 [examples, tokens].
        chances: where tokens are drawn, the numbers that decide each, float32 [targets, decisions].
    """

    inputs: dict[str, Tensor]
    targets: Tensor | None
    rows: NDArray[np.int64]
    real: Tensor
    written: bool = False
    in_order: Tensor | None = None
    judged: Tensor | None = None
    chances: Tensor | None = None

    @property
    def size(self) -> str:
        """Rows and padded tokens of each, in words: what the memory of a forward pass grows with."""
        rows, tokens = self.inputs["attention_mask"].shape
        return f"{rows} x {tokens} tokens"

    @property
    def num_tokens(self) -> int:
        """Number of real (unpadded) tokens."""
        return int(self.real.sum())


class Source(Protocol):
    """What a training draws examples from."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, [examples]."""
        ...

    def in_pass(self, number: int, short: bool = False) -> Source:
        """Return the examples as they are in this pass over them (0-based), where chance has a hand in them.

        Where texts are cut into examples, those of a run may be ``short`` at first.
        """
        ...

    def at(self, progress: float) -> Source:
        """Return the same examples as they are when the run has come so far, 0 to 1."""
        ...

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """Return these examples, padded, on the device."""
        ...

    def targets_of(self, rows: NDArray[np.int64]) -> Any:
        """Return the targets of these examples, on the CPU, as an objective weighs them."""
        ...


@dataclass(frozen=True)
class Examples:
    """A tokenised split.

    Args:
        inputs: model argument name -> token ids of each example, unpadded.
        targets: see `graftlm.data.features.Targets`; None for a split that is only predicted.
        padding: model argument name -> the value that fills the rest of a row.
        padding_side: ``right`` or ``left``, as the tokenizer wants it.
        written: whether the targets are texts, to be written token by token.
        prompts: where one network reads and writes, how many tokens of each example are read before it writes; None
            where another part of the network reads them all.
    """

    inputs: Mapping[str, Sequence[Sequence[int]]]
    targets: Targets | None
    padding: Mapping[str, int]
    padding_side: str = "right"
    written: bool = False
    prompts: Sequence[int] | None = None

    @classmethod
    def of(
        cls, features: Features, targets: Targets | None, padding: Mapping[str, int], padding_side: str
    ) -> Examples:
        """Return features with their targets. Where texts are written, the sides of batches are ours to choose."""
        if features.writing is None:
            return cls(features.inputs, targets, padding, padding_side)
        return cls(features.inputs, targets, padding, written=True, prompts=features.writing.prompts)

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, [examples]."""
        return lengths_of(self.inputs["input_ids"])

    def in_pass(self, number: int, short: bool = False) -> Examples:
        """Return the examples, which are the same in every pass."""
        return self

    def at(self, progress: float) -> Examples:
        """Return the examples, which are the same from beginning to end."""
        return self

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """Pad the given examples to the longest of them and move them to the device."""
        inputs = {
            name: sent(self._padded([values[row] for row in rows], self.padding[name]), device)
            for name, values in self.inputs.items()
        }
        ones = [[1] * len(self.inputs["input_ids"][row]) for row in rows]
        real = self._padded(ones, 0)
        inputs["attention_mask"] = sent(real, device)
        targets = None if self.targets is None else sent(self.targets_of(rows), device)
        return Batch(inputs, targets, rows, real, self.written)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Return some of the examples of a model that writes."""
        assert not isinstance(self.targets, np.ndarray)
        return replace(
            self,
            inputs={name: [values[row] for row in rows] for name, values in self.inputs.items()},
            targets=None if self.targets is None else [self.targets[row] for row in rows],
            prompts=None if self.prompts is None else [self.prompts[row] for row in rows],
        )

    def prompts_of(self, rows: NDArray[np.int64]) -> Examples:
        """Return what is read of some examples before anything is written, without targets.

        Where one network reads and writes, prompts are padded on the left, so that they end together.
        """
        some = replace(self.take(rows), targets=None)
        if some.prompts is None:
            return some
        inputs = {
            name: [ids[:length] for ids, length in zip(values, some.prompts, strict=True)]
            for name, values in some.inputs.items()
        }
        return replace(some, inputs=inputs, padding_side="left")

    def continued(self, texts: Sequence[Sequence[int]]) -> Examples:
        """Return the examples, prompts only, with these tokens as their targets."""
        ids = [np.array(text, dtype=np.int64) for text in texts]
        if self.prompts is None:
            return replace(self, targets=ids)
        inputs = [[*prompt, *text] for prompt, text in zip(self.inputs["input_ids"], texts, strict=True)]
        # The output at a token is about the one after it.
        targets = [
            np.concatenate([np.full(length - 1, IGNORED), text, [IGNORED]]).astype(np.int64)
            for length, text in zip(self.prompts, ids, strict=True)
        ]
        return replace(self, inputs={"input_ids": inputs}, targets=targets, padding_side="right")

    def targets_of(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the targets of the given examples on the CPU; those of tokens are padded like the tokens."""
        assert self.targets is not None
        if isinstance(self.targets, np.ndarray):
            return torch.from_numpy(self.targets[rows])
        return self._padded([self.targets[row] for row in rows], IGNORED)

    def _padded(self, values: Sequence[Sequence[int] | NDArray[np.int64]], fill: int) -> Tensor:
        width = max(map(len, values), default=1)
        padded = np.full((len(values), width), fill, dtype=np.int64)
        for line, row in zip(padded, values, strict=True):
            line[: len(row)] = row
            if self.padding_side == "left":
                line[:] = np.roll(line, width - len(row))
        return torch.from_numpy(padded)


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, order: str, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the rows of every step of one epoch: a pure function of its arguments.

    Args:
        lengths: tokens of each example, [examples].
        batch_size: examples per step; the last step of an epoch may have fewer.
        order: ``shuffled``, or ``length_grouped`` for batches of similar lengths.
        seed: of the run.
        epoch: 0-based.
    """
    random = generator("order", seed, epoch)
    rows = random.permutation(len(lengths)).astype(np.int64)
    if order == "shuffled":
        return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    stretch = batch_size * max(2, min(_GROUPED_BATCHES, len(rows) // (8 * batch_size)))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(rows), stretch):
        part = rows[start : start + stretch]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


def prediction_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows in batches of similar length, longest first; the caller puts results back by row.

    Args:
        lengths: tokens of each example, [examples].
        batch_tokens: most of rows * longest length of a batch; an example that is longer has a batch of its own.
    """
    rows = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(rows):
        size = max(1, batch_tokens // max(1, int(lengths[rows[start]])))
        yield rows[start : start + size]
        start += size


def micro_batches(
    rows: NDArray[np.int64], micro_batch: int, rank: int, num_ranks: int
) -> list[NDArray[np.int64]]:
    """Split the rows of one step over ranks, then into forward passes; a rank may get none."""
    own = np.array_split(rows, num_ranks)[rank]
    return [own[start : start + micro_batch] for start in range(0, len(own), micro_batch)]
