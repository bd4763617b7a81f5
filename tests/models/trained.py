"""Small trained tokenizers, one of each kind, shared by tests that only read them."""

from __future__ import annotations

from functools import cache

from tests.models.raw_text import sentences
from transformers import PreTrainedTokenizerFast

from graftlm.models.special_tokens import Layout
from graftlm.models.tokenizer_options import TokenizerKind, TokenizerOptions
from graftlm.models.tokenizer_training import train_tokenizer

SIZES = {"wordpiece": 300, "byte_bpe": 420, "unigram": 300}
KINDS = tuple(SIZES)


@cache
def trained(kind: TokenizerKind, layout: Layout = "bert", seed: int = 0) -> PreTrainedTokenizerFast:
    options = TokenizerOptions(vocabulary_size=SIZES[kind])
    return train_tokenizer(sentences(seed), options, kind, layout)
