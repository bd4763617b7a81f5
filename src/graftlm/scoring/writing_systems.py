"""How texts are cut into the words that count, by the way their language is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import regex

Scoring = Literal["english", "words", "characters"]
"""Which words two texts are compared by.

- ``english``: as published results of English have it: sacreBLEU's 13a, ROUGE over stemmed words of a-z and 0-9
- ``words``: for every other language with spaces between words: sacreBLEU's 13a, ROUGE over Unicode words as they are
- ``characters``: for scripts without spaces: sacreBLEU's zh, ROUGE over single characters, Latin words kept whole
"""

# Written without spaces between words, and left whole by sacreBLEU's zh, which knows Chinese characters only.
_UNSPACED = r"\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SINGLE = rf"\p{{Han}}\p{{Hangul}}{_UNSPACED}"
# \w of this module, unlike that of `re`, holds the vowel signs of Hindi and the like, which are part of a word.
_WORD = regex.compile(r"\w+")
_CHARACTER = regex.compile(rf"(?V1)[{_SINGLE}]|[\w--[{_SINGLE}]]+")
_TO_SPACE = regex.compile(f"([{_UNSPACED}])")
_LETTER = regex.compile(r"\p{L}")
_LATIN_LETTER = regex.compile("[a-zA-Z]")
_UNSPACED_LETTER = regex.compile(rf"(?V1)[\p{{L}}&&[\p{{Han}}{_UNSPACED}]]")
# English texts hold some foreign names: 5 in 10,000 letters are common. German and French have 10 to 40 in 1,000.
_MOST_FOREIGN_LETTERS = 3 / 1000


def scoring_of(references: Iterable[str]) -> Scoring:
    """Return what the letters of the references suggest; English where there are none.

    Characters where more than half of the letters are of scripts written without spaces, words where more than 3 in
    1,000 are not a to z. Indonesian, Swahili and others that need no more than a to z are taken for English.
    """
    letters = latin = unspaced = 0
    for text in references:
        letters += len(_LETTER.findall(text))
        latin += len(_LATIN_LETTER.findall(text))
        unspaced += len(_UNSPACED_LETTER.findall(text))
    if unspaced > letters / 2:
        return "characters"
    return "words" if letters - latin > letters * _MOST_FOREIGN_LETTERS else "english"


def words_of(text: str, scoring: Scoring) -> list[str]:
    """Return the words of a text in lower case, without punctuation; single characters where these are compared."""
    return (_CHARACTER if scoring == "characters" else _WORD).findall(text.lower())


def spaced(text: str) -> str:
    """Return the text with spaces around each Kana, Thai, Lao, Khmer and Myanmar character.

    sacreBLEU's zh does so with Chinese ones only: of two sentences in Thai it would compare the whole.
    """
    return _TO_SPACE.sub(r" \1 ", text)
