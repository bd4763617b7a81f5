"""What belongs to rows from which a text is written: how it is decoded, and the tokens it should hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoding:
    """How a text is written. Without any chance in it: the same row gives the same text.

    Args:
        max_new_tokens: longest text, its end token included; None leaves it to the base model, see `target_limit` of
            `graftlm.models.decoding`.
        num_beams: hypotheses kept at each token; 1 takes the likeliest token each time.
        length_penalty: exponent of the length by which a hypothesis' log-probability is divided.
        no_repeat_ngram_size: runs of so many tokens occur once at most; 0 for no such rule.
        repetition_penalty: what the scores of tokens already written are divided by; 1 for none.
        source_language: the code that the tokenizer of a many-language model knows, such as ``eng_Latn``.
        target_language: likewise; the text begins with its token.
    """

    max_new_tokens: int | None
    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    source_language: str | None = None
    target_language: str | None = None


class TextReader(Protocol):
    """Token ids -> what they say."""

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text, special tokens left out."""
        ...

    def ended(self, tokens: Sequence[int]) -> bool:
        """Return whether an end token stands among them: if not, the text was cut."""
        ...


@dataclass(frozen=True)
class Writing:
    """What features hold beside the tokens that are read.

    Args:
        targets: for each example the token that each output should give, `IGNORED` where that is nothing to learn;
            empty where the rows hold no texts to be learnt.
        prompts: for each example how many of its tokens are read before writing begins, where one network reads and
            writes; None where an encoder reads all of them.
        reader: of the tokens that are written.
        cut_rows: positions of the rows whose target lost tokens to its limit.
    """

    targets: Sequence[NDArray[np.int64]]
    prompts: Sequence[int] | None
    reader: TextReader
    cut_rows: list[int] = field(default_factory=list[int])

    @classmethod
    def joined(cls, parts: Sequence[Writing], starts: Sequence[int]) -> Writing:
        """Return what belongs to the examples of all parts, in order; ``starts`` are the first rows of each part."""
        prompts = [part.prompts for part in parts if part.prompts is not None]
        return cls(
            list(chain.from_iterable(part.targets for part in parts)),
            list(chain.from_iterable(prompts)) if prompts else None,
            parts[0].reader,
            shifted([part.cut_rows for part in parts], starts),
        )


def shifted(positions: Sequence[Sequence[int]], starts: Sequence[int]) -> list[int]:
    """Return positions in parts as positions in the whole, where each part begins at its start."""
    return [start + position for part, start in zip(positions, starts, strict=True) for position in part]


WRITTEN_COLUMNS = ("token", "log_probability", "given")
"""Columns of the outputs of a model that writes, one row a token [tokens, 3]: its id, the natural logarithm of its
probability, and 1 where it is one of the row's own target, else 0."""


@dataclass(frozen=True)
class Written:
    """The outputs for one example, taken apart.

    Args:
        tokens: ids that were written.
        log_probabilities: of each, natural.
        given: log-probabilities of the tokens of the row's target, natural; empty where it has none.
    """

    tokens: list[int]
    log_probabilities: NDArray[np.float64]
    given: NDArray[np.float64]

    @classmethod
    def of(cls, output: NDArray[np.float32]) -> Written:
        """Take apart an output [tokens, 3] as `WRITTEN_COLUMNS` says."""
        given = output[:, 2] == 1.0
        own = output[~given].astype(np.float64)
        return cls(own[:, 0].astype(np.int64).tolist(), own[:, 1], output[given, 1].astype(np.float64))
