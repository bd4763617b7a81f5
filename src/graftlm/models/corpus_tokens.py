"""The tokens of a corpus, sentence by sentence, as the tokenizer gives them to whole texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

_CONTINUED = (("a", "\nb"), ("a", " b"), ("a。", "b"))
"""Beginnings of a text, and what may stand behind them as a sentence of its own."""
_SPACED = 2  # of these go on behind white space
_KEPT = "Aé ß ﬁ½\t漢ไ😀\n\n  Ⅳ b"


class CorpusTokens:
    """Sentences -> the ids of each, none of them special: the name of a special token in a text is text.

    Some tokenizers put a space before every text that begins without one (SentencePiece's dummy prefix), which a
    sentence in the midst of a text does not have. It is read without, where the tokenizer then divides as it divides
    whole texts.

    Args:
        tokenizer: a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        self._begins = _of_text_alone(backend)
        self._continues = min((self._begins, _without_prefix(self._begins)), key=self._unlike)

    @property
    def divides_alike(self) -> bool:
        """Whether sentences that white space parts have the tokens that they have within their text."""
        return self._unlike(self._continues, _SPACED) == 0

    @property
    def keeps_text(self) -> bool:
        """Whether tokens give back every character, as those of bytes do; then they alone say how many bytes they cost.

        Not so where capitals, accents or white space are lost, or a token stands for whatever is unknown.
        """
        return self._begins.decode(_ids(self._begins, [_KEPT])[0], skip_special_tokens=False) == _KEPT

    def __call__(self, sentences: Sequence[str], begins: Sequence[bool]) -> Sequence[Sequence[int]]:
        """Return the ids of each sentence.

        Args:
            sentences: of texts.
            begins: which are the first of their text.
        """
        if self._continues is self._begins:
            return _ids(self._begins, sentences)
        found: list[Sequence[int]] = [()] * len(sentences)
        for backend, first in ((self._begins, True), (self._continues, False)):
            rows = [row for row, each in enumerate(begins) if each == first]
            for row, ids in zip(rows, _ids(backend, [sentences[row] for row in rows]), strict=True):
                found[row] = ids
        return found

    def _unlike(self, continues: Tokenizer, pairs: int | None = None) -> int:
        """Return in how many pairs the tokens of two sentences are not those of the text."""
        return sum(
            _ids(self._begins, [first])[0] + _ids(continues, [second])[0]
            != _ids(self._begins, [first + second])[0]
            for first, second in _CONTINUED[:pairs]
        )


def _ids(backend: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [each.ids for each in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def _of_text_alone(backend: Tokenizer) -> Tokenizer:
    copy: Any = Tokenizer.from_str(backend.to_str())
    copy.encode_special_tokens = True
    copy.no_truncation()
    copy.no_padding()
    return copy


def _without_prefix(backend: Tokenizer) -> Tokenizer:
    """Return the tokenizer that begins no text with a space of its own."""
    content = json.loads(backend.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        content[part] = _unprefixed(content[part])
    return _of_text_alone(Tokenizer.from_str(json.dumps(content)))


def _unprefixed(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return settings of a normaliser or pre-tokenizer without what writes the space; None where nothing is left."""
    match part:
        case {"type": "Prepend"}:
            return None
        case {"type": "Metaspace"}:
            return {**part, "prepend_scheme": "never"}
        case {"type": "ByteLevel"}:
            return {**part, "add_prefix_space": False}
        case {"type": "Sequence"}:
            inner = "normalizers" if "normalizers" in part else "pretokenizers"
            return {**part, inner: [kept for each in part[inner] if (kept := _unprefixed(each)) is not None]}
        case _:
            return part
