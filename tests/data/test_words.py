"""Texts are divided into words so that every word is where its offsets say, and nothing but space lies between."""

from __future__ import annotations

import random

import pytest

from graftlm.data.words import as_text, text_offsets, word_offsets, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("New York-based, isn't it?", ["New", "York", "-", "based", ",", "isn", "'", "t", "it", "?"]),
        ("吴重阳，Tom在上海", ["吴", "重", "阳", "，", "Tom", "在", "上", "海"]),
        ("cafe\u0301 हिन्दी", ["cafe\u0301", "हिन्दी"]),
        ("ok 👩\u200d🚀 😀", ["ok", "👩\u200d", "🚀", "😀"]),
        ("  \n\t ", []),
        ("snake_case x2", ["snake_case", "x2"]),
    ],
)
def test_words_of_a_text(text, words):
    assert words_of(text) == words


def test_offsets_find_every_word_and_leave_out_nothing_but_space(seed):
    source = random.Random(seed)
    alphabet = "ab 1_,.-'\n\t\u00a0\u3000é\u0301吴かไ😀\u200bश\u094d"
    for _ in range(2_000):
        text = "".join(source.choices(alphabet, k=source.randint(0, 12)))
        offsets = text_offsets(text)
        covered = {position for start, end in offsets for position in range(start, end)}
        assert offsets == sorted(offsets) and sum(end - start for start, end in offsets) == len(covered)
        assert all(text[position].isspace() for position in set(range(len(text))) - covered)
        assert not any(text[position].isspace() for position in covered)


def test_ascii_and_other_texts_are_divided_alike(seed):
    source = random.Random(seed)
    for _ in range(500):
        text = "".join(chr(source.randint(32, 126)) for _ in range(20))
        assert text_offsets(text) == text_offsets(text + " é")[:-1]


def test_words_of_a_list_stand_in_the_text_that_they_make():
    words = ("New", "York", "!")
    assert [as_text(words)[start:end] for start, end in word_offsets(words)] == list(words)
    assert words_of(words) == list(words)
