"""Which tokens of a vocabulary continue a word, as the tokenizer itself tells; for masking whole words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import decoders
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graftlm.data.words import text_offsets
from graftlm.errors import ModelError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A single byte of a character that a vocabulary without byte-level pieces does not have."""
_BROKEN = "\ufffd"


class WordMark(NamedTuple):
    """How a tokenizer tells the pieces at the beginning of a word from those inside it.

    Args:
        kind: ``inside``: a prefix on pieces inside words; ``bytes``: bytes written as letters, the space before a word
            with them; ``space``: a letter that stands for the space before a word.
        text: the prefix, or the letter.
    """

    kind: Literal["inside", "bytes", "space"]
    text: str


def word_mark(tokenizer: PreTrainedTokenizerBase) -> WordMark:
    """Return how the pieces of a tokenizer tell where words begin.

    Raises:
        ModelError: they do not, or the tokenizer is a slow one.
    """
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        if state["model"]["type"] == "WordPiece":
            return WordMark("inside", state["model"]["continuing_subword_prefix"])
        parts = [*_parts(state["pre_tokenizer"]), *_parts(state["decoder"])]
        if any(part["type"] == "ByteLevel" for part in parts):
            return WordMark("bytes", "Ġ")
        for part in parts:
            if part["type"] == "Metaspace":
                return WordMark("space", part["replacement"])
            # Older tokenizers of Llama write the space in their normalizer, and back in their decoder.
            if part["type"] == "Replace" and part["content"] == " ":
                return WordMark("space", part["pattern"]["String"])
    raise ModelError(
        f"the pieces of this {type(tokenizer).__name__} do not tell where words begin",
        where=tokenizer.name_or_path,
        fix="mask tokens instead of whole words, or choose another base model",
    )


def continues_word(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.bool_]:
    """Return for each id whether it goes on with the word of the token before it [vocabulary].

    WordPiece marks pieces inside words. Others mark the space before a word: without one a piece goes on if it begins
    with something that a word goes on with. Punctuation, digits of a script without spaces and line breaks therefore
    begin anew, as in `graftlm.data.words.text_offsets`. The first word of a text has no space before it: the caller
    knows that nothing continues at the beginning.

    Raises:
        ModelError: the pieces do not tell.
    """
    mark, marks = word_mark(tokenizer), special(tokenizer)
    decoder = decoders.ByteLevel()
    continues = np.zeros(len(marks), dtype=np.bool_)
    for piece, index in tokenizer.get_vocab().items():
        if marks[index]:
            continue
        if mark.kind == "inside":
            continues[index] = piece.startswith(mark.text) and piece != mark.text
        elif not piece.startswith(mark.text):
            byte = _BYTE.fullmatch(piece)
            if byte is not None:
                text = bytes.fromhex(byte[1]).decode(errors="replace")
            else:
                text = decoder.decode([piece]) if mark.kind == "bytes" else piece
            continues[index] = _goes_on(text)
    return continues


def special(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.bool_]:
    """Return for each id whether it is a special token [vocabulary]; ids that no token has are not."""
    found = np.zeros(max(tokenizer.get_vocab().values(), default=-1) + 1, dtype=np.bool_)
    found[list(tokenizer.all_special_ids)] = True
    found[[index for index, token in tokenizer.added_tokens_decoder.items() if token.special]] = True
    return found


def _goes_on(text: str) -> bool:
    """Return whether a text goes on with the word before it; part of a character does."""
    return text.startswith(_BROKEN) or text_offsets(f"a{text}")[0][1] > 1


def _parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if part is not None:
        yield part
        for inner in cast("list[dict[str, Any]]", part.get("pretokenizers") or part.get("decoders") or []):
            yield from _parts(inner)
