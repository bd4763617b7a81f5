"""The ``tokenizer`` section of a pretraining recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from graftlm.config import Config

TokenizerKind = Literal["wordpiece", "byte_bpe", "unigram"]
Normalisation = Literal["lowercase", "none", "nfc", "nfkc"]


class TokenizerOptions(Config):
    """How text becomes tokens where a model starts from nothing, or what is added where one goes on."""

    kind: TokenizerKind | None = None
    """wordpiece, byte_bpe (nothing is ever unknown, nothing is lost) or unigram. None: that of the architecture's
    family; a base model that is trained further keeps its own tokenizer."""

    vocabulary_size: PositiveInt = 8192
    """Rows of the embedding, special tokens included."""

    normalisation: Normalisation | None = None
    """What becomes of a text first: lowercase (accents are removed too), none, or the Unicode forms nfc and nfkc.
    None: lowercase for wordpiece, none for byte_bpe, nfkc for unigram."""

    extend_by: NonNegativeInt = 0
    """New whole words for the tokenizer of a base model that is trained further; each starts as the mean of its
    pieces."""
