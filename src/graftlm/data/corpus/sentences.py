"""Texts -> sentences, by rules, in time linear in the text; nothing is lost or changed on the way.

The statistical splitters (Punkt and its like) need a model for each language and put words and abbreviations they
have not seen in doubt; for the pairs and spans of pretraining, a boundary that is missed costs little, and one set
inside a name or an abbreviation more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_SENTENCE = 8_192
"""Characters; a longer one is cut, at white space where there is any: tokenizers choke on words of megabytes."""

_SPACED_ENDS = ".!?…؟।॥۔።"  # the next sentence follows after white space
_UNSPACED_ENDS = "。！？｡．"  # it may follow at once
_CLOSING = "\"'”’»›)]}」』）】》〉"
_OPENING = "\"'“‘«‹„‚([{¿¡—–-「『（【《〈"
_CONTINUING = "，、；：,;:…"
_LINE_ENDS = _SPACED_ENDS + _UNSPACED_ENDS + _CLOSING + ":："
_ENDS = re.escape(_SPACED_ENDS + _UNSPACED_ENDS)
# One set of first characters, so that the search runs from one to the next; every run is read once.
_CANDIDATE = re.compile(rf"[\n{_ENDS}](?:(?<=\n)\s*+|(?<!\n)[{_ENDS}]*+[{re.escape(_CLOSING)}]*+)")
_NEXT = re.compile(rf"\s*+(?:[{re.escape(_OPENING)}]++\s?)?+(\S)?")
_LINE_START = re.compile(r"\n[^\S\n]*+(\S)")
_MOST_LOWER_STARTS, _MOST_ENDED_LINES, _FEWEST_LINES = 0.2, 0.8, 3
"""Where more lines than the first begin in lower case, lines were broken to fit a page and say nothing about sentences;
but where more than the second end as sentences do, each line is one, of a text that was put into lower case. Of fewer
lines than the third that is not believed."""

_TITLES_AND_THE_LIKE = """
mr mrs ms messrs mme mlle mm dr prof st rev hon gen col capt cpt lt sgt maj cmdr adm gov sen rep pres supt mt ft vs cf
viz esp ca al approx hr fr sr jr bzw ggf usw bspw
"""
_STAND_BEFORE_NUMBERS = "no nos nr vol vols p pp fig figs eq ch chap sec art op ver"
_ABBREVIATIONS = frozenset(_TITLES_AND_THE_LIKE.split())
_BEFORE_NUMBERS = frozenset(_STAND_BEFORE_NUMBERS.split())
_LONGEST_TOKEN = 24
_LOOKED_BACK = 8
"""Characters of white space, quotes and brackets that may stand between the end of a sentence and that of its line."""


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text; joined they are the text.

    A sentence ends

    - after ``. ! ?`` and their like, closing quotes and brackets included, before white space and a capital, a digit
      or a letter of a script without case; not after a title, an initial or another usual abbreviation;
    - after ``。！？`` and their like, wherever they stand;
    - at a blank line; and at every line end, unless many lines begin in lower case and not nearly all end like
      sentences (they were broken to fit a page).
      A line that begins in lower case goes on with a sentence that has no end yet.

    White space between two sentences leads the second one; only the last may end with white space.
    """
    broken = _lines_are_broken(text)
    sentences: list[str] = []
    start = 0
    for match in _CANDIDATE.finditer(text):
        end = _line_end(text, match, broken) if match[0][0] == "\n" else _sentence_end(text, match, start)
        if end > start:
            sentences.extend(_bounded(text[start:end]))
            start = end
    rest = text[start:]
    if rest.isspace() and sentences:
        sentences[-1] += rest
    elif rest:
        sentences.extend(_bounded(rest))
    return sentences


def _lines_are_broken(text: str) -> bool:
    starts = list(_LINE_START.finditer(text))
    if sum(start[1].islower() for start in starts) <= _MOST_LOWER_STARTS * len(starts):
        return False
    ended = sum(_ends_like_a_sentence(text, start.start()) for start in starts)
    return len(starts) < _FEWEST_LINES or ended <= _MOST_ENDED_LINES * len(starts)


def _ends_like_a_sentence(text: str, end: int) -> bool:
    """Say whether a full stop or the like, and not that of an abbreviation, stands before the line end."""
    first = max(0, end - _LOOKED_BACK)
    line = text[first:end].rstrip(_CLOSING + " \t\r\n")
    stop = first + len(line) - 1
    return line.endswith(tuple(_SPACED_ENDS + _UNSPACED_ENDS)) and not (
        line[-1] == "." and _is_abbreviation(text, stop, max(0, stop - _LONGEST_TOKEN), "")
    )


def _sentence_end(text: str, match: re.Match[str], start: int) -> int:
    """Return where the sentence that began at ``start`` ends after a full stop or the like, 0 if it goes on."""
    stop, end = match.start(), match.end()
    following = text[end : end + 1]
    if text[stop] in _UNSPACED_ENDS:
        decimal = text[stop] == "．" and following.isdigit() and text[stop - 1 : stop].isdigit()
        return 0 if decimal or (following and following in _CONTINUING) else end
    if not following.isspace():
        return 0
    begins = _NEXT.match(text, end)
    first = begins[1] if begins is not None else None
    if first is None or first.islower() or not first.isalnum():
        return 0
    if match[0] == "." and _is_abbreviation(text, stop, start, first):
        return 0
    return end


def _is_abbreviation(text: str, stop: int, start: int, first: str) -> bool:
    """Say whether the full stop at ``stop`` belongs to the word before it; ``first`` begins what follows."""
    before = text[max(start, stop - _LONGEST_TOKEN) : stop].split()
    word = before[-1].lstrip(_OPENING) if before else ""
    if len(word) == 1 and word.isupper():
        return word != "I"  # an initial
    if "." in word:
        return all(len(part) == 1 and part.isalpha() for part in word.split("."))  # U.S., e.g.
    if word.isdigit() and not text[start : stop - len(word)].strip():
        return True  # the number of a list item
    lowered = word.lower()
    return lowered in _ABBREVIATIONS or (first.isdigit() and lowered in _BEFORE_NUMBERS)


def _line_end(text: str, match: re.Match[str], broken: bool) -> int:
    """Return where the sentence before a line end ends, 0 if it goes on in the next line."""
    end = match.start()
    while end and text[end - 1].isspace():
        end -= 1
    following = text[match.end() : match.end() + 1]
    if not following or not end:
        return 0
    blank = text.count("\n", match.start(), match.end()) > 1
    ended = text[end - 1] in _LINE_ENDS
    if following.islower() and not (ended and blank):
        return end if ended and not broken else 0
    return end if blank or not broken else 0


def _bounded(sentence: str) -> Iterator[str]:
    start = 0
    while len(sentence) - start > LONGEST_SENTENCE:
        limit = start + LONGEST_SENTENCE
        cut = max(sentence.rfind(space, start + 1, limit) for space in " \n\t")
        # Not after leading white space alone, which belongs to the word behind it.
        end = cut if cut > start and not sentence[start:cut].isspace() else limit
        yield sentence[start:end]
        start = end
    yield sentence[start:]
