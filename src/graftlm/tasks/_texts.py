"""What tasks that read a text, or a pair of texts, have in common."""

from __future__ import annotations

from collections.abc import Iterable

from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features


def encode_texts(split: Split, encoder: Encoder) -> Features:
    """Tokenise the ``text`` column, joined with ``text_pair`` where the split has one."""
    pairs = split.columns.get("text_pair")
    return encoder(
        [str(text) for text in split.columns["text"]],
        None if pairs is None else [str(text) for text in pairs],
    )


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct names: numbers by value, words by code point."""
    distinct = set(names)
    if all(name.isdecimal() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))
