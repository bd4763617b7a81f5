"""Raw text for tests of tokenizers: invented by a seed, or a real novel where there is one."""

from __future__ import annotations

import gzip
import os
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

DATA = Path(os.environ.get("GRAFTLM_SHARED_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
MISSING = f"no real data at {DATA}; set GRAFTLM_SHARED_DATA"

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


def sentences(seed: int, count: int = 400, words: int = 300) -> list[str]:
    """Sentences of invented words whose frequencies fall as in a language, with capitals, digits and punctuation."""
    random_ = random.Random(seed)
    lexicon = ["".join(random_.choices(_SYLLABLES, k=random_.randint(1, 4))) for _ in range(words)]
    weights = [1 / (rank + 1) for rank in range(words)]
    texts = []
    for _ in range(count):
        chosen = random_.choices(lexicon, weights, k=random_.randint(3, 14))
        chosen[0] = chosen[0].capitalize()
        if random_.random() < 0.2:
            chosen.insert(random_.randrange(len(chosen)), str(random_.randrange(2000)))
        texts.append(random_.choice((" ", " ", "  ")).join(chosen) + random_.choice(".?!"))
    return texts


def any_texts(seed: int, count: int = 60, longest: int = 40) -> list[str]:
    """Texts of characters from everywhere in Unicode: controls, marks, emoji, unassigned ones; no surrogates."""
    random_ = random.Random(seed)
    ranges = ((0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x590, 0x6FF), (0x1100, 0x11FF), (0x2000, 0x206F),
              (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0, 0x10FFFF))  # fmt: skip

    def character() -> str:
        found = chr(random_.randint(*random_.choice(ranges)))
        return found if unicodedata.category(found) != "Cs" else " "

    return ["".join(character() for _ in range(random_.randint(1, longest))) for _ in range(count)]


def novel(name: str = "Burnett_Garden_1911") -> Iterator[str]:
    with gzip.open(DATA / "english_novels" / f"{name}.txt.gz", "rt") as stream:
        yield from stream
