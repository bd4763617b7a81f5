"""A tokenizer at the length limit of a run, safe to share between threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from graftlm.data.features import Features
from graftlm.data.messages import Conversation
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.models.chat import ChatEncoder
from graftlm.models.sequences import (
    SequenceLimits,
    TokenReader,
    decoder_sequences,
    encoder_decoder_sequences,
)
from graftlm.models.spaced_words import need_spaces

# Windows of a long row share this part of their tokens: 1 / 4.
_OVERLAP_SHARE = 4
# Texts tokenised per call: bounds the memory of the intermediate encodings, costs nothing in speed.
_CHUNK = 2048
# The same for windows: a long context has many.
_WINDOWED_CHUNK = 64
# Of each window at least this share is left to the context, however long the question is.
_CONTEXT_SHARE = 0.25


SpeakingToken = Literal["first", "last"]


@dataclass(frozen=True)
class TextEncoder:
    """Tokenise, add special tokens, cut to the limit and count what was cut.

    A fast tokenizer keeps its truncation length as state of its backend, and threads that use different lengths
    silently get each other's. Hence the lock: one for all encoders, since it does not show which share a backend.

    Args:
        tokenizer: a fast tokenizer; a slow one will do where texts are only written.
        max_length_tokens: special tokens included.
        encoder_decoder: whether one part of the network reads and another writes.
        end_tokens: ids that end what is written.
        max_target_tokens: of the longest text that is written, its end token included; 0 where none is.
        speaking_token: which token of a word answers for it, ``first`` or ``last``.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length_tokens: int
    encoder_decoder: bool = False
    end_tokens: frozenset[int] = frozenset()
    max_target_tokens: int = 0
    speaking_token: SpeakingToken = "first"
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Features:
        """Return the features of ``texts``, in order, each joined with its pair where there are pairs.

        Of a pair that is too long, the longer half is cut first.

        Raises:
            ConfigurationError: the limit leaves no room for a token of each text.
        """
        self._require_room("a text" if pairs is None else "a pair of texts", pair=pairs is not None)
        inputs: dict[str, list[Ragged]] = {name: [] for name in self.argument_names}
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
                inputs[name].append(Ragged.of(encoded[name]))
            pieces = encoded.encodings or []
            truncated += [start + index for index, piece in enumerate(pieces) if piece.overflowing]
        joined = {name: Ragged.joined(parts) for name, parts in inputs.items()}
        return Features(joined, range(len(texts)), truncated)

    def windows(self, questions: Sequence[str], contexts: Sequence[str], stride_tokens: int) -> Features:
        """Return each question with every part of its context that fits beside it, see `Features.spans`.

        Only a question that would leave the context less than a quarter of a window is cut; its row is counted as
        truncated.

        Args:
            questions: one for each row.
            contexts: of any length.
            stride_tokens: tokens that neighbouring windows share; less where a question leaves no room for twice that.

        Raises:
            ConfigurationError: the limit leaves no room for a token of each.
        """
        self._require_room("a question and its context", pair=True)
        lengths, fitting, truncated = self._fitting(questions)
        strides: dict[int, list[int]] = {}
        for row, room in enumerate(self.max_length_tokens - lengths):
            strides.setdefault(min(stride_tokens, int(room) // 2), []).append(row)
        found: list[tuple[int, int, dict[str, list[int]], NDArray[np.int32]]] = []
        for stride, rows in strides.items():
            for start in range(0, len(rows), _WINDOWED_CHUNK):
                some = rows[start : start + _WINDOWED_CHUNK]
                with self._lock:
                    encoded = self.tokenizer(
                        [fitting[row] for row in some],
                        [contexts[row] for row in some],
                        truncation="only_second",
                        max_length=self.max_length_tokens,
                        stride=stride,
                        return_overflowing_tokens=True,
                        return_offsets_mapping=True,
                        return_attention_mask=False,
                    )
                for example, position in enumerate(encoded["overflow_to_sample_mapping"]):
                    inputs = {name: encoded[name][example] for name in self.argument_names}
                    spans = np.array(encoded["offset_mapping"][example], dtype=np.int32)
                    parts = encoded.encodings[example].sequence_ids  # pyright: ignore[reportOptionalSubscript]
                    spans[[part != 1 for part in parts]] = -1
                    found.append((some[position], len(found), inputs, spans))
        found.sort(key=lambda window: window[:2])
        return Features(
            {name: [inputs[name] for _, _, inputs, _ in found] for name in self.argument_names},
            [row for row, _, _, _ in found],
            truncated,
            [spans for _, _, _, spans in found],
        )

    def _fitting(self, questions: Sequence[str]) -> tuple[NDArray[np.int64], list[str], list[int]]:
        """Return tokens beside the context, the questions, cut where they leave it no room, and the rows of those."""
        with self._lock:
            special = self.tokenizer.num_special_tokens_to_add(pair=True)
        most = int((self.max_length_tokens - special) * (1 - _CONTEXT_SHARE))
        fitting, cut = list(questions), list[int]()
        lengths: list[int] = []
        for start in range(0, len(questions), _CHUNK):
            lengths += [len(spans) for spans in self._spans(questions[start : start + _CHUNK])]
        for row, length in enumerate(lengths):
            if length > most:
                cut.append(row)
            while lengths[row] > most:
                # What is left may fall into other tokens, hence the loop; it always loses a character.
                (spans,) = self._spans([fitting[row]])
                fitting[row] = fitting[row][: min(spans[most][0], len(fitting[row]) - 1)]
                lengths[row] = len(self._spans([fitting[row]])[0])
        return np.array(lengths, dtype=np.int64) + special, fitting, cut

    def _spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return from which character to which each token goes, special tokens apart."""
        with self._lock:
            encoded = self.tokenizer(
                list(texts),
                truncation=False,
                add_special_tokens=False,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,  # what is longer than the model reads is cut here, not run
            )
        return encoded["offset_mapping"]

    def words(self, rows: Sequence[Sequence[str]]) -> Features:
        """Return the features of rows given as words; one token of a word answers for it, see ``speaking_token``.

        A row beyond the limit becomes several examples, which overlap by a quarter. A word answers in the one where
        its first token has most tokens on its poorer side; where the row itself begins or ends, nothing is missing.
        Where its last token answers, what is behind it was not read: then most tokens before it are wanted.

        Raises:
            ConfigurationError: the limit leaves no room for a word.
        """
        inputs: dict[str, list[Ragged]] = {name: [] for name in self.argument_names}
        row_of: list[int] = []
        answering: list[NDArray[np.int64]] = []
        room = self._require_room("a word", pair=False)
        overlap = room // _OVERLAP_SHARE
        space = " " if need_spaces(self.tokenizer) else ""
        for start in range(0, len(rows), _CHUNK):
            with self._lock:
                encoded = self.tokenizer(
                    [[space + word for word in row] for row in rows[start : start + _CHUNK]],
                    is_split_into_words=True,
                    truncation=True,
                    max_length=self.max_length_tokens,
                    stride=overlap,
                    return_overflowing_tokens=True,
                    return_attention_mask=False,
                )
            for name in inputs:
                inputs[name].append(Ragged.of(encoded[name]))
            of_windows: list[int] = encoded["overflow_to_sample_mapping"]
            row_of += [start + row for row in of_windows]
            windows = [
                np.array([-1 if word is None else word for word in encoded.word_ids(each)])
                for each in range(len(of_windows))
            ]
            for _, group in itertools.groupby(range(len(windows)), key=of_windows.__getitem__):
                answering += _answering([windows[each] for each in group], overlap, self.speaking_token)
        joined = {name: Ragged.joined(parts) for name, parts in inputs.items()}
        return Features(joined, row_of, words=answering)

    def sequences(
        self,
        sources: Sequence[str],
        targets: Sequence[str] | None,
        prefix: str,
        separator: str,
    ) -> Features:
        """Return the features of texts from which others are written, see `graftlm.models.sequences`.

        Args:
            sources: what is read, of any length.
            targets: what should be written; None where nobody knows.
            prefix: put before each source.
            separator: put between source and target where one network reads and writes.
        """
        limits = SequenceLimits(self.max_length_tokens, self.max_target_tokens)
        prefixed = [prefix + source for source in sources]
        if self.encoder_decoder:
            self._require_room("a text", pair=False)
        with self._lock:
            if self.encoder_decoder:
                return encoder_decoder_sequences(self.tokenizer, prefixed, targets, limits, self._reader)
            return decoder_sequences(self.tokenizer, prefixed, targets, separator, limits, self._reader)

    def conversations(
        self,
        conversations: Sequence[Conversation],
        places: Sequence[str],
        roles: Collection[str],
    ) -> Features:
        """Return the features of conversations, see `graftlm.models.chat`."""
        limits = SequenceLimits(self.max_length_tokens, self.max_target_tokens)
        with self._lock:
            return ChatEncoder(self.tokenizer, self._reader, roles, limits).features(conversations, places)

    def _require_room(self, what: str, pair: bool) -> int:
        """Return the tokens left beside the special ones; refuse a limit that leaves none to each text.

        A tokenizer asked for less leaves nothing of a text, or does not cut at all.
        """
        with self._lock:
            special = self.tokenizer.num_special_tokens_to_add(pair=pair)
        fewest = special + (2 if pair else 1)
        if self.max_length_tokens < fewest:
            raise ConfigurationError(
                f"{self.max_length_tokens} tokens leave no room for {what}: {special} are special tokens",
                where="task.max_length_tokens",
                fix=f"allow at least {fewest}",
            )
        return self.max_length_tokens - special

    @property
    def _reader(self) -> TokenReader:
        return TokenReader(self.tokenizer, self.end_tokens)

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


def _answering(
    windows: Sequence[NDArray[np.int64]], overlap: int, speaking: SpeakingToken = "first"
) -> list[NDArray[np.int64]]:
    """Return which word each token of each window answers for, -1 for none, so that each word has one token.

    Args:
        windows: the word of each token, -1 for special tokens, of all windows of a row.
        overlap: tokens, special ones apart, that a window shares with the one before it.
        speaking: which token of a word answers.
    """
    last = speaking == "last"
    if len(windows) == 1:  # nearly every row, so it is quick
        (window,) = windows
        changes = window[1:] != window[:-1]
        speaks = np.append(changes, True) if last else np.append(True, changes)
        return [np.where(speaks[: len(window)], window, -1)]
    answers = [np.full(len(window), -1, dtype=np.int64) for window in windows]
    places = [np.flatnonzero(window >= 0) for window in windows]
    starts = np.cumsum([0, *(len(place) - overlap for place in places[:-1])])
    found = [
        (number, position, at, int(windows[number][at]))
        for number, place in enumerate(places)
        for position, at in enumerate(place.tolist())
    ]
    spoken: dict[int, int] = {}  # word -> position of the token that answers for it in the row
    for number, position, _, word in found:
        position = int(starts[number]) + position
        spoken[word] = position if last else spoken.get(word, position)
    best: dict[int, tuple[int, int, int]] = {}  # word -> context, window, place of that token in it
    for number, position, at, word in found:
        if int(starts[number]) + position != spoken[word]:
            continue
        size = len(places[number])
        left = position if number else size
        right = size - 1 - position if number < len(windows) - 1 else size
        context = left if last else min(left, right)
        if word not in best or context > best[word][0]:
            best[word] = (context, number, at)
    for word, (_, number, at) in best.items():
        answers[number][at] = word
    return answers
