"""How often each word occurs in a stream of texts, in the form in which a tokenizer's model gets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

_MOST_RUNS = 1_000_000
_MOST_WORDS = 3_000_000
"""Where there are more different ones, those seen least often are forgotten: names, numbers, misprints."""


def count_words(
    texts: Iterable[str],
    normalizer: Normalizer | None,
    pre_tokenizer: PreTokenizer,
    before: str = "",
    runs_of: Callable[[str], Iterable[str]] = str.split,
) -> Counter[str]:
    """Return word -> occurrences; memory is bounded by `_MOST_WORDS` different ones.

    Runs of characters are counted first and normalised and divided into words once each, which is many times faster
    than to do so with every text.

    Args:
        texts: read once.
        normalizer: of the tokenizer.
        pre_tokenizer: of the tokenizer; it divides at white space at least.
        before: is put before every run: a space where the pre-tokenizer gives words the space before them.
        runs_of: a text -> its runs, none of which ends within a word; those between white space by default.
    """
    runs, words = Counter[str](), Counter[str]()

    def divide() -> None:
        for run, count in runs.items():
            normalised = run if normalizer is None else normalizer.normalize_str(run)
            for word, _ in pre_tokenizer.pre_tokenize_str(before + normalised):
                words[word] += count
        runs.clear()
        fewest = 1
        while len(words) > _MOST_WORDS:
            for word in [word for word, count in words.items() if count <= fewest]:
                del words[word]
            fewest *= 2

    for text in texts:
        runs.update(runs_of(text))
        # Where a script has no spaces, hardly a run comes twice, but its words may.
        if len(runs) >= _MOST_RUNS:
            divide()
    divide()
    return words


def alphabet(words: Mapping[str, int], coverage: float) -> set[str]:
    """Return the characters without the rarest, which together make up at most 1 - ``coverage`` of the text.

    Characters of ASCII are never among the rarest: a digit is not left out because a novel has few of them.
    """
    characters = Counter[str]()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    spare = int((1.0 - coverage) * characters.total())
    kept = set(characters)
    for character, count in sorted(characters.items(), key=lambda item: (item[1], item[0])):
        if character.isascii():
            continue
        spare -= count
        if spare < 0:
            break
        kept.remove(character)
    return kept
