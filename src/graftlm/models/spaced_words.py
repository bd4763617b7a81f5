"""Words given one by one to byte-level tokenizers, which know a word by the space before it."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def add_spaces(tokenizer: PreTrainedTokenizerFast) -> None:
    """Set a byte-level tokenizer to put a space before each word, where it can be set so; it is saved so, too."""
    for part, whole in _byte_levels(tokenizer.backend_tokenizer):
        if whole:
            part.add_prefix_space = True
            tokenizer.add_prefix_space = True
            tokenizer.init_kwargs["add_prefix_space"] = True


def need_spaces(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> bool:
    """Whether each word has to be given with a space before it, because the tokenizer cannot be set to add one.

    Those of Llama 3, Qwen and EuroBERT divide a text before its letters become bytes. Set to add a space, they would
    add one to each part of a word, and read 2010 as " 2 0 1 0".
    """
    backend = tokenizer.backend_tokenizer if isinstance(tokenizer, PreTrainedTokenizerFast) else tokenizer
    if not isinstance(backend, Tokenizer):  # a slow one
        return False
    return any(not whole and not part.add_prefix_space for part, whole in _byte_levels(backend))


def _byte_levels(backend: Any) -> list[tuple[Any, bool]]:
    """Return each part that turns letters into bytes, and whether it is given what stands between two spaces whole."""
    outer = backend.pre_tokenizer
    parts: list[Any] = [*backend.pre_tokenizer] if isinstance(outer, pre_tokenizers.Sequence) else [outer]
    return [(part, at == 0) for at, part in enumerate(parts) if isinstance(part, pre_tokenizers.ByteLevel)]
