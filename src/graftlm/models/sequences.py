"""Tokens of texts that are written: from a source, or as replies of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from graftlm.data.features import IGNORED, Features
from graftlm.data.writing import Writing
from graftlm.errors import ConfigurationError, ModelError

# Texts tokenised per call: bounds the memory of the intermediate encodings.
_CHUNK = 2048
# Fewer tokens to go on from say nothing.
_LEAST_PROMPT = 8


@dataclass(frozen=True)
class TokenReader:
    """Token ids -> text, with the tokenizer that made them.

    Args:
        tokenizer: of the model.
        end_tokens: ids that end a text.
    """

    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]

    @property
    def end(self) -> int:
        """The id that is put behind a text.

        Raises:
            ModelError: the tokenizer has none.
        """
        end = self.tokenizer.eos_token_id
        if not isinstance(end, int):
            raise ModelError(
                "the tokenizer has no end token, so that the model could not learn when to stop writing",
                where=self.tokenizer.name_or_path,
                fix="choose another base model",
            )
        return end

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text, special tokens and white space at both ends left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def ended(self, tokens: Sequence[int]) -> bool:
        """Return whether an end token stands among them."""
        return not self.end_tokens.isdisjoint(tokens)

    def closed(self, tokens: list[int]) -> list[int]:
        """Return the tokens with one end token at their end: nothing is ever written behind it."""
        last = next((at for at in reversed(range(len(tokens))) if tokens[at] in self.end_tokens), None)
        return [*tokens, self.end] if last is None else tokens[: last + 1]


@dataclass(frozen=True)
class SequenceLimits:
    """Tokens of what is read and of what is written.

    Args:
        most: an encoder reads so many; one network that reads and writes holds so many of both.
        written: of these the text that is written may use so many, its end token included.
    """

    most: int
    written: int

    @property
    def prompt(self) -> int:
        """Tokens left to the prompt where one network reads and writes.

        Raises:
            ConfigurationError: too few.
        """
        room = self.most - self.written
        if room < _LEAST_PROMPT:
            fewer = self.most // 2
            shorter = (
                f"allow {fewer}, which leaves as much to be read, or "
                if self.most - fewer >= _LEAST_PROMPT
                else ""
            )
            raise ConfigurationError(
                f"{self.written} tokens to be written leave {max(room, 0)} of {self.most} to what is read before them, "
                f"which needs {_LEAST_PROMPT}",
                where="task.max_target_tokens",
                fix=f"{shorter}set task.max_length_tokens to {self.written + _LEAST_PROMPT} or more",
            )
        return room

    def target(self, ids: list[int]) -> list[int]:
        """Return the tokens of a target, the last one kept where it is cut: so a model learns to end within the limit.

        Args:
            ids: the end token is the last.
        """
        return ids if len(ids) <= self.written else [*ids[: self.written - 1], ids[-1]]


def encoder_decoder_sequences(
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None,
    limits: SequenceLimits,
    reader: TokenReader,
) -> Features:
    """Return the tokens of the sources as an encoder reads them, and those of the targets as a decoder writes them."""
    inputs, truncated = token_ids(tokenizer, sources), list[int]()
    for row, ids in enumerate(inputs):
        if len(ids) > limits.most:
            truncated.append(row)
            # The tokenizer cuts once more by itself, because it knows which special tokens must stay.
            inputs[row] = tokenizer(sources[row], truncation=True, max_length=limits.most)["input_ids"]
    wanted, cut = list[NDArray[np.int64]](), list[int]()
    for row, ids in enumerate(token_ids(tokenizer, targets or (), target=True)):
        whole = reader.closed(ids)
        if len(whole) > limits.written:
            cut.append(row)
        wanted.append(np.array(limits.target(whole), dtype=np.int64))
    return Features(
        {"input_ids": inputs}, range(len(sources)), truncated, writing=Writing(wanted, None, reader, cut)
    )


def decoder_sequences(
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None,
    separator: str,
    limits: SequenceLimits,
    reader: TokenReader,
) -> Features:
    """Return source, separator and target one after the other; only the tokens of the target are learnt.

    Each is tokenised on its own, so that a prompt has the same tokens with and without what follows it.
    """
    (middle,) = token_ids(tokenizer, [separator], special=False)
    room = limits.prompt - len(middle)
    if room < 1:
        raise ConfigurationError(
            f"the separator has {len(middle)} tokens, of which {limits.prompt} are left to all that is read",
            where="task.separator",
            fix="shorten it, or allow more to task.max_length_tokens",
        )
    prompts, truncated = list[list[int]](), list[int]()
    for row, ids in enumerate(token_ids(tokenizer, sources)):
        begun = _without_end(tokenizer, ids)
        if len(begun) > room:
            truncated.append(row)
        # Some tokenizers leave nothing of a character: something must be there to go on from.
        prompts.append([*begun[:room], *middle] or [reader.end])
    lengths = [len(prompt) for prompt in prompts]
    if targets is None:
        writing = Writing([], lengths, reader)
        return Features({"input_ids": prompts}, range(len(prompts)), truncated, writing=writing)
    whole = [[*ids, reader.end] for ids in token_ids(tokenizer, targets, special=False)]
    inputs = [[*prompt, *limits.target(ids)] for prompt, ids in zip(prompts, whole, strict=True)]
    wanted = [
        next_tokens(ids, [position >= length for position in range(len(ids))])
        for ids, length in zip(inputs, lengths, strict=True)
    ]
    cut = [row for row, ids in enumerate(whole) if len(ids) > limits.written]
    writing = Writing(wanted, lengths, reader, cut)
    return Features({"input_ids": inputs}, range(len(inputs)), truncated, writing=writing)


def next_tokens(ids: Sequence[int], learnt: Sequence[bool]) -> NDArray[np.int64]:
    """Return for each token the one after it where that is to be learnt, else `IGNORED` [tokens]."""
    targets = np.full(len(ids), IGNORED, dtype=np.int64)
    after = np.array(learnt[1:], dtype=bool)
    targets[:-1][after] = np.array(ids[1:], dtype=np.int64)[after]
    return targets


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool = True, target: bool = False
) -> list[list[int]]:
    """Return the tokens of each text, of any length.

    Args:
        tokenizer: of the model.
        texts: any number.
        special: whether the tokenizer adds its special tokens.
        target: whether a decoder of its own writes them.
    """
    found = list[list[int]]()
    for start in range(0, len(texts), _CHUNK):
        some = list(texts[start : start + _CHUNK])
        # What is longer than the model reads is cut by the caller, not run: nothing to warn about.
        found += tokenizer(
            text=None if target else some,
            text_target=some if target else None,
            add_special_tokens=special,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
    return found


def _without_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """What a tokenizer puts behind a text would end the writing before it began."""
    while len(ids) > 1 and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        ids = ids[:-1]
    return ids
