"""When two texts count as the same: equal after NFC, lower case and folding of white space."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from graftlm.data.words import as_text


def normalised(text: str) -> str:
    """Return the text in NFC and lower case, every run of white space one space and none at the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.lower().split())


def unspaced(text: str) -> str:
    """Return the text without any white space, and in lower case: a text and the list of its words become the same."""
    return unicodedata.normalize("NFC", "".join(text.lower().split()))


def text_keys(texts: Sequence[Sequence[object]], seed: int = 0) -> list[bytes]:
    """Return 16 bytes for each row, equal where all its texts are the same after `normalised`.

    Args:
        texts: one sequence of texts (or of their words) per text role, all of equal length.
        seed: different seeds give unrelated keys.
    """
    salt = hashlib.blake2b(str(seed).encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()
    # U+001F cannot survive inside a text: split() takes it for white space. So joining loses nothing.
    contents = ("\x1f".join([normalised(as_text(text)) for text in row]) for row in zip(*texts, strict=True))
    return [
        hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16, salt=salt).digest()
        for content in contents
    ]
