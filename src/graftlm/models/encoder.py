"""A tokenizer at the length limit of a run, safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from graftlm.data.features import Features

# Texts tokenised per call: bounds the memory of the intermediate encodings, costs nothing in speed.
_CHUNK = 2048


@dataclass(frozen=True)
class TextEncoder:
    """Tokenise, add special tokens, cut to the limit and count what was cut.

    A fast tokenizer keeps its truncation length as state of its backend, and threads that use different lengths
    silently get each other's. Hence the lock: one for all encoders, since it does not show which share a backend.

    Args:
        tokenizer: a fast tokenizer.
        max_length_tokens: special tokens included.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length_tokens: int
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Features:
        """Return the features of ``texts``, in order, each joined with its pair where there are pairs.

        Of a pair that is too long, the longer half is cut first.
        """
        inputs: dict[str, list[list[int]]] = {name: [] for name in self.argument_names}
        truncated: list[int] = []
        for start in range(0, len(texts), _CHUNK):
            with self._lock:
                encoded = self.tokenizer(
                    list(texts[start : start + _CHUNK]),
                    list(pairs[start : start + _CHUNK]) if pairs is not None else None,
                    truncation=True,
                    max_length=self.max_length_tokens,
                    return_attention_mask=False,
                )
            for name in inputs:
                inputs[name] += encoded[name]
            pieces = encoded.encodings or []
            truncated += [start + index for index, piece in enumerate(pieces) if piece.overflowing]
        return Features(inputs, range(len(texts)), truncated)

    def rows_naming_special_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the positions of texts in which the name of a special token stands, such as ``[SEP]``."""
        names: list[str] = self.tokenizer.all_special_tokens
        return [row for row, text in enumerate(texts) if any(name in text for name in names)]

    @property
    def argument_names(self) -> list[str]:
        """The model arguments the tokenizer fills, the attention mask apart."""
        return [name for name in self.tokenizer.model_input_names if name != "attention_mask"]

    @property
    def padding(self) -> Mapping[str, int]:
        """Model argument -> the value that fills a row up."""
        pad: int = self.tokenizer.pad_token_id  # pyright: ignore[reportAssignmentType]
        return {"input_ids": pad, "token_type_ids": self.tokenizer.pad_token_type_id}
