"""Scores of answers agree with a second implementation, written from the definitions of SQuAD 1.1, 2.0 and MLQA."""

from __future__ import annotations

import random
import string
import unicodedata

import numpy as np
import pytest

from graftlm.data.dataset import Split
from graftlm.scoring.answer_texts import answer_scores, normalised_words
from graftlm.scoring.thresholds import best_margin
from graftlm.tasks._task import Learnt
from graftlm.tasks.question_answering import AnswerPrediction, QuestionAnswering

ARTICLES = {
    None: ["a", "an", "the"],
    "en": ["a", "an", "the"],
    "es": ["un", "una", "unos", "unas", "el", "la", "los", "las"],
    "de": ["ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"],
    "vi": ["của", "là", "cái", "chiếc", "những"],
}
PIECES = [
    "a", "an", "the", "The", "theatre", "Un", "la", "der", "das", "của", "là", "ال", "البيت", "red", "Red", "RED",
    "fox", "fox's", "U.S.", "--", "...", "«bien»", "¿qué?", "北京", "大学", "北", "。", "、", "iPhone6", "1,000", "a-b",
    "é", "\t", "\n", "\u3000", "\u00a0", "x_y", "the.", "$", "+", "का", "घर",
]  # fmt: skip


def is_word(character):
    """A word character of a regular expression."""
    return character.isalnum() or character == "_"


def words_by_definition(text, language):
    """Lower case, then no punctuation, then no articles, then words."""
    kept = []
    for character in text.lower():
        mark = unicodedata.category(character).startswith("P") if language else False
        if not mark and character not in string.punctuation:
            kept.append(character)
    if language == "ar":
        return "".join(kept).replace("ال", " ").split()
    if language == "zh":
        return "".join(f" {each} " if "\u4e00" <= each <= "\u9fa5" else each for each in kept).split()
    # An article is a whole run of word characters.
    text, run = "", ""
    for character in [*kept, " "]:
        if is_word(character):
            run += character
        else:
            text += (" " if run in ARTICLES.get(language, []) else run) + character
            run = ""
    return text.split()


def f1_by_definition(given, wanted):
    left, common = list(wanted), 0
    for word in given:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def scores_by_definition(answer, references, language, version):
    """Return exact match and F1 of one question."""
    if version == 2:
        references = [text for text in references if words_by_definition(text, language)] or [""]
    exact, overlap = 0.0, 0.0
    for reference in references:
        given, wanted = words_by_definition(answer, language), words_by_definition(reference, language)
        exact = max(exact, float(" ".join(given) == " ".join(wanted)))
        if version == 2 and (not given or not wanted):
            overlap = max(overlap, float(given == wanted))
        else:
            overlap = max(overlap, f1_by_definition(given, wanted))
    return exact, overlap


@pytest.mark.parametrize("language", [None, "en", "es", "hi", "vi", "de", "ar", "zh"])
def test_agreement_with_the_definitions(language, seed):
    fresh = random.Random(f"{seed} {language}")

    def text(fewest=0):
        return fresh.choice(["", " "]).join(fresh.choices(PIECES, k=fresh.randint(fewest, 5)))

    seen = set()
    for _ in range(1_000):
        version = fresh.choice([1, 2])
        references = [text(1) for _ in range(fresh.randint(version == 1, 3))]
        answer = fresh.choice([*references, text(), ""])
        ours = answer_scores(answer, references, language, may_lack=version == 2)
        theirs = scores_by_definition(answer, references, language, version)
        assert ours == pytest.approx(theirs, abs=1e-12), (answer, references, version)
        seen.add((version, ours[0], 0 < ours[1] < 1))
    assert len(seen) >= 5


def test_words_that_count():
    assert normalised_words("The U.S. theatre, a fox's", None) == ["us", "theatre", "foxs"]
    assert normalised_words("«El» niño", "es") == ["niño"]
    assert normalised_words("«El» niño", None) == ["«el»", "niño"]
    assert normalised_words("iPhone6在北京。", "zh") == ["iphone6", "在", "北", "京"]


def predictions(texts):
    return [AnswerPrediction(text, None, None, 1.0, 0.0, ()) for text in texts]


def scored(answers, references, **options):
    rows = [tuple((text, 0) for text in texts) for texts in references]
    contexts = [f"context {row}" for row in range(len(rows))]
    split = Split("test", {"answers": rows, "context": contexts}, [str(row) for row in range(len(rows))])
    values = QuestionAnswering(**options).score(predictions(answers), split, Learnt(()), resamples=100).values
    return {name: score.value for name, score in values.items()}


def test_questions_with_and_without_an_answer_are_told_apart():
    values = scored(["red fox", "red", "", "blue"], [["red fox", "fox"], ["red fox"], [], []])
    assert values == {
        "exact_match": 0.5, "exact_match_answerable": 0.5, "exact_match_unanswerable": 0.5,
        "f1": pytest.approx((1 + 2 / 3 + 1 + 0) / 4), "f1_answerable": pytest.approx((1 + 2 / 3) / 2),
        "f1_unanswerable": 0.5,
    }  # fmt: skip
    assert scored(["red fox"], [["red fox"]]) == {"exact_match": 1.0, "f1": 1.0}
    # A reference without a word: SQuAD 1.1 compares it, 2.0 does not count it.
    assert scored(["a"], [["the"]]) == {"exact_match": 1.0, "f1": 0.0}
    assert scored(["a", ""], [["the"], []])["f1_answerable"] == 1.0


def test_the_threshold_for_no_answer_is_the_best_there_is(seed):
    fresh = np.random.default_rng(seed)
    for _ in range(300):
        rows = int(fresh.integers(1, 20))
        margins = np.round(fresh.normal(size=rows), 1)  # ties
        gains = fresh.choice([-1.0, 0.0, 0.5, 1.0], size=rows)
        threshold = best_margin(margins, gains)
        best = max(gains[margins <= bound].sum() for bound in [-100.0, *margins])
        assert gains[margins <= threshold].sum() == pytest.approx(best)
        assert threshold not in margins
    assert best_margin(np.zeros(0), np.zeros(0)) == 0.0
