"""How well tokenizers fit a text, side by side: a new one against that of a base model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import cast

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graftlm.data.words import text_offsets
from graftlm.errors import DataError, ModelError

_TEXTS = 256
"""Texts per call of a tokenizer: bounds the memory of the encodings."""


@dataclass(frozen=True)
class TokenizerFacts:
    """What a tokenizer makes of texts; words are those of `graftlm.data.words.text_offsets`, for every tokenizer.

    Args:
        tokens_per_word: its fertility, 1.0 at best; special tokens are not counted.
        unknown_share: of the tokens, those that stand for what the vocabulary cannot say.
        bytes_per_token: UTF-8 bytes of the texts by tokens.
        whole_word_share: of the words, those that are one known token.
    """

    tokens_per_word: float
    unknown_share: float
    bytes_per_token: float
    whole_word_share: float


@dataclass
class _Counts:
    tokens: int = 0
    unknown: int = 0
    whole: int = 0


def fertility(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> TokenizerFacts:
    """Return what one tokenizer makes of texts, see `side_by_side`."""
    return side_by_side({"": tokenizer}, texts)[""]


def side_by_side(
    tokenizers: Mapping[str, PreTrainedTokenizerBase], texts: Iterable[str]
) -> dict[str, TokenizerFacts]:
    """Return name -> what that tokenizer makes of the same texts, which are read once.

    Raises:
        DataError: there is no word in the texts.
        ModelError: a tokenizer does not know where its tokens stand.
    """
    for tokenizer in tokenizers.values():
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer: it gives no character positions",
                where=tokenizer.name_or_path,
            )
    counts = {name: _Counts() for name in tokenizers}
    words = size = 0
    stream = iter(texts)
    while some := list(islice(stream, _TEXTS)):
        spans = [text_offsets(text) for text in some]
        words += sum(map(len, spans))
        size += sum(len(text.encode("utf-8", "surrogatepass")) for text in some)
        for name, tokenizer in tokenizers.items():
            encoded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            for ids, offsets, starts in zip(
                encoded["input_ids"], encoded["offset_mapping"], spans, strict=True
            ):
                _add(counts[name], ids, offsets, starts, cast("int | None", tokenizer.unk_token_id))
    if not words:
        raise DataError("there is no word in these texts", where="tokenizer", fix="check the corpus")
    return {
        name: TokenizerFacts(
            tokens_per_word=found.tokens / words,
            unknown_share=found.unknown / max(found.tokens, 1),
            bytes_per_token=size / max(found.tokens, 1),
            whole_word_share=found.whole / words,
        )
        for name, found in counts.items()
    }


def _add(
    counts: _Counts,
    ids: list[int],
    offsets: list[tuple[int, int]],
    words: list[tuple[int, int]],
    unknown: int | None,
) -> None:
    counts.tokens += len(ids)
    counts.unknown += ids.count(unknown) if unknown is not None else 0
    at = before = 0
    for start, end in words:
        while at < len(ids) and offsets[at][1] <= start:
            at += 1
        # A token may begin with the white space between two words.
        alone = at < len(ids) and offsets[at][0] >= before and offsets[at][1] == end
        shared = at + 1 < len(ids) and offsets[at + 1][0] < end
        counts.whole += alone and not shared and ids[at] != unknown
        before = end
