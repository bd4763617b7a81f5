"""Token ids: what a task makes of rows and a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Features:
    """Token ids of many examples, unpadded.

    Args:
        inputs: model argument name (``input_ids``, ``token_type_ids``) -> one list of integers per example.
        truncated_rows: positions of the examples that lost tokens to the length limit.
    """

    inputs: dict[str, list[list[int]]]
    truncated_rows: list[int] = field(default_factory=list[int])

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples together, special tokens included."""
        return sum(len(ids) for ids in self.inputs["input_ids"])


class Encoder(Protocol):
    """Text -> features at the length limit of a run. Safe to share between threads."""

    def __call__(self, texts: Sequence[str]) -> Features:
        """Tokenise many texts, adding special tokens, cutting each to the limit."""
        ...
