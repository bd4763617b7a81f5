"""Sentences: joined they are the text, boundaries are where readers see them, and time is linear."""

from __future__ import annotations

import random
import time

import pytest

from graftlm.data.corpus.sentences import LONGEST_SENTENCE, split_sentences

# Each list, joined, is a text; its members are the sentences.
TEXTS = {
    "plain": ["It rained.", " We stayed!", " Why?", " Nobody knows…", " Perhaps 3 did."],
    "titles": ["Mr. Smith met Dr. J. R. Brown of St. Ives.", " They talked, e.g. about the U.S. Army.", " It ended."],
    "numbers": ["It cost 3.50 on p. 7 of No. 12.", " No.", " It cost 4.", " 12 men paid."],
    "quotes": ['"Go!" he cried.', ' "I will (now)."', " (She did.)", " “Well?”", " ‘No.’", " Then night."],
    "goes on": ["He asked why? and left.", ' "Oh!" said she.'],
    "i ends a sentence": ["It was I.", " Then came V. Hugo."],
    "list": ["1. The first.", " 2. The second."],
    "tokenised": ["He left .", ' " You stay , " she said .', " It rained ."],
    "chinese": ["天下大势，分久必合。", "谁说的？！", "“是我。”", "他说：", "\n“好．", "价３．１４元。"],
    "no break before a comma": ["他喊：“好！”，然后走了。", "完。"],
    "arabic, hindi": ["هل هذا صحيح؟", " نعم.", " यह है।", " वह है।"],
    "paragraphs": ["A heading", "\n\nThe text begins.", " It goes on", "\n\n\tAnd on.", "\nEnd."],
    "lines are sentences": ["First line", "\nSecond line", "\n- third, an item", "\nFourth."],
    "lines of lower case are sentences": [
        "it rained.", "\nwe stayed at home!", " \nwhy ? \"", "\nnobody e.g. knew."
    ],
    "few lines of lower case": ["The boat (a small ship)\nlet loose a swarm."],
    "lower case after an abbreviation": ["We met Mr.\nbrown and Dr.\nwhite of the U.S.\narmy and Mr.\nblack."],
    "lower case after a bracket": ["He had (it seemed)\nseen (in the dark)\nthe man (and his dog)\nbefore:\nonce."],
    "broken lines": [
        "The boat touched Harwich and let\nloose a swarm of folk among whom\nwe must follow Mr.\nBrown.",
        " He\nwas by no\nmeans conspicuous.", "\n\nCHAPTER II", "\n\nThe end of\nit all was\nnear.",
    ],
    "a paragraph that was cut": ["He would\n\nbuild a house.", "\n\nThen he left."],
    "carriage returns": ["One line\r\nis broken and\r\ngoes on.", "\r\n\r\nTwo."],
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_boundaries(name: str) -> None:
    assert split_sentences("".join(TEXTS[name])) == TEXTS[name]


def test_white_space_leads_and_only_the_last_may_end_with_it() -> None:
    assert split_sentences("  \n One.  Two. \n\n ") == ["  \n One.", "  Two. \n\n "]
    assert split_sentences("") == []
    assert split_sentences(" \n ") == [" \n "]


def test_any_text_is_kept(seed: int) -> None:
    draw = random.Random(seed)
    pieces = [
        *'.!?…。．！？"”’)]（\n\r\t \u3000aZ3éß天١।',
        "\n\n",
        "Mr.",
        " e.g.",
        "\u2028",
        "é",
        "😀",
        ". ",
        "  ",
    ]
    for _ in range(1500):
        text = "".join(draw.choices(pieces, k=draw.randint(0, 40)))
        found = split_sentences(text)
        assert "".join(found) == text
        assert not any(sentence.isspace() for sentence in found) or text.isspace()
        assert not any(sentence[-1].isspace() for sentence in found[:-1])


def test_long_sentences_are_cut_at_white_space(seed: int) -> None:
    draw = random.Random(seed)
    text = " ".join("x" * draw.randint(1, 200) for _ in range(1000))
    found = split_sentences(text)
    assert "".join(found) == text
    assert max(map(len, found)) <= LONGEST_SENTENCE
    assert all(sentence[0] == " " for sentence in found[1:])
    assert [word for sentence in found for word in sentence.split()] == text.split()


@pytest.mark.parametrize(
    "unit", ["x", "天", "。", ".", " ", "\n", ". ", '."', "a\n", " \n", "1. ", "A. ", "。，", ". —"]
)
def test_time_is_linear_in_texts_without_sentences(unit: str) -> None:
    size = 10_000_000 if unit == "x" else 100_000
    text = "B" + unit * (size // len(unit))
    began = time.process_time()
    assert "".join(split_sentences(text)) == text
    assert time.process_time() - began < 5  # a quadratic one takes longer for 100,000 characters
