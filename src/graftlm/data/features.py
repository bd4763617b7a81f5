"""Token ids: what a task makes of rows and a model reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graftlm.data.messages import Conversation
from graftlm.data.ragged import Ragged, lengths_of
from graftlm.data.writing import Writing, shifted

Outputs = Sequence[NDArray[np.float32]]
"""What the model says about each example: [outputs], or [tokens, outputs] where every token has its own; what it writes
about it where it writes, see `graftlm.data.writing.WRITTEN_COLUMNS`."""
Targets = NDArray[np.int64] | NDArray[np.float32] | Sequence[NDArray[np.int64]]
"""What the outputs are compared with: one array over all examples, or one per example where lengths differ.
Entries of `IGNORED` are no target at all."""
IGNORED = -100


@dataclass(frozen=True)
class Features:
    """Token ids of many examples, unpadded.

    Args:
        inputs: model argument name (``input_ids``, ``token_type_ids``) -> the integers of each example.
        rows: position of the row that each example was made from; a long row may have several.
        truncated_rows: positions of the rows that lost tokens to the length limit.
        spans: where windows were cut from a text: for each example the characters from ... to of each token
            [tokens, 2], counted in the text of its row; -1 for tokens of something else.
        words: for each example, which word of its row each token answers for, -1 for none [tokens]; empty where tokens
            answer for nothing. Over all examples of a row each word has at most one token.
        writing: what is written from them; None where the model writes nothing.
    """

    inputs: Mapping[str, Sequence[Sequence[int]]]
    rows: Sequence[int]
    truncated_rows: list[int] = field(default_factory=list[int])
    spans: Sequence[NDArray[np.int32]] = ()
    words: Sequence[NDArray[np.int64]] = ()
    writing: Writing | None = None

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples together, special tokens included."""
        return int(lengths_of(self.inputs["input_ids"]).sum())

    @classmethod
    def joined(cls, parts: Sequence[Features], rows: Sequence[int]) -> Features:
        """Return the examples of all parts, in order; their tokens lie in one array.

        Args:
            parts: one at least, alike in what they hold.
            rows: how many rows each part was made from.
        """
        starts = [0, *accumulate(rows)][:-1]
        first = parts[0]
        inputs = {
            name: Ragged.joined([_ragged(part.inputs[name]) for part in parts]) for name in first.inputs
        }
        writing = None
        if first.writing is not None:
            writing = Writing.joined([part.writing for part in parts if part.writing is not None], starts)
        one_each = all(part.rows == range(count) for part, count in zip(parts, rows, strict=True))
        return cls(
            inputs,
            range(sum(rows)) if one_each else shifted([part.rows for part in parts], starts),
            shifted([part.truncated_rows for part in parts], starts),
            list(chain.from_iterable(part.spans for part in parts)),
            list(chain.from_iterable(part.words for part in parts)),
            writing,
        )

    def without_targets(self) -> Features:
        """Return the features without the texts that should be written: nobody asks how probable these are."""
        return self if self.writing is None else replace(self, writing=replace(self.writing, targets=()))


def _ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    return rows if isinstance(rows, Ragged) else Ragged.of(rows)


class Encoder(Protocol):
    """Text -> features at the length limit of a run. Safe to share between threads."""

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Features:
        """Tokenise many texts, or texts and their pairs, adding special tokens, cutting each to the limit."""
        ...

    def windows(self, questions: Sequence[str], contexts: Sequence[str], stride_tokens: int) -> Features:
        """Tokenise each question with every part of its context that fits beside it; fill ``Features.spans``."""
        ...

    def words(self, rows: Sequence[Sequence[str]]) -> Features:
        """Tokenise many lists of words, each word on its own, in overlapping windows where a row exceeds the limit."""
        ...

    def sequences(
        self,
        sources: Sequence[str],
        targets: Sequence[str] | None,
        prefix: str,
        separator: str,
    ) -> Features:
        """Tokenise texts from which others are written, and those where they are known; fill ``Features.writing``."""
        ...

    def conversations(
        self,
        conversations: Sequence[Conversation],
        places: Sequence[str],
        roles: Collection[str],
    ) -> Features:
        """Tokenise conversations of which the messages of ``roles`` are learnt; fill ``Features.writing``.

        ``places`` tell where each comes from, for errors.
        """
        ...
