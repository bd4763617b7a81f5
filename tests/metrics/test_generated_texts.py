"""Metrics of generated texts agree with the official scorers, for a sample and for its resamples."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from graftlm.errors import DataError
from graftlm.scoring.bootstrap import score
from graftlm.scoring.generated_texts import GeneratedTexts, scoring_of, signatures
from graftlm.scoring.metric import check_primary, metrics_of
from graftlm.scoring.rouge import ROUGE, rouge_scores
from graftlm.scoring.writing_systems import spaced, words_of

SCORINGS = ("english", "words", "characters")
PIECES = [
    "the", "The", "cat", "cats", "running", "runs", "ran", "happily", "U.S.", "it's", "--", "...", ",", ".", "!", "a-b",
    "1,000", "3.14", "$5", "x_y", "Müller", "größer", "u\u0308ber", "café", "«bien»", "हिन्दी", "भाषा", "привет",
    "한국어", "北京", "大学", "在", "。", "、", "iPhone6在", "ラーメン", "を", "ภาษาไทย", "မြန်မာ", "&quot;", "<s>",
    "\u200b", "\u3000",
]  # fmt: skip
SPACES = [" "] * 8 + ["\n", "\n", "", "\t", "\r\n"]


def text(fresh, most=12):
    """Return a random text, empty or nothing but spaces now and then."""
    if fresh.random() < 0.1:
        return fresh.choice(["", " ", "\n", "."])
    some = fresh.sample(PIECES, 8)
    return "".join(fresh.choice(some) + fresh.choice(SPACES) for _ in range(fresh.randint(1, most)))


def corpus(fresh, most_rows=8):
    """Return outputs and references that often have something in common."""
    rows = fresh.randint(1, most_rows)
    references = [text(fresh) for _ in range(rows)]
    outputs = []
    for reference in references:
        words = reference.split(" ")
        if fresh.random() < 0.5:
            words = [word for word in words if fresh.random() < 0.8] + text(fresh, 3).split(" ")
        outputs.append(" ".join(words) if fresh.random() < 0.7 else text(fresh))
    return outputs, references


def compared(outputs, references, scoring="english", cut=None, log_probabilities=None, tokens=None):
    cut = [False] * len(outputs) if cut is None else cut
    return GeneratedTexts.compare(outputs, references, scoring, cut, log_probabilities, tokens)


def values(sample, kind="replies"):
    return {name: value for metric in metrics_of(kind) for name, value in metric.values(sample, ()).items()}


def official(outputs, references, scoring):
    """Return what sacreBLEU and rouge-score say."""
    zh = scoring == "characters"
    bleu = sacrebleu.corpus_bleu(
        [spaced(each) if zh else each for each in outputs],
        [[spaced(each) if zh else each for each in references]],
        tokenize="zh" if zh else "13a",
        force=True,
    )
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    if scoring != "english":
        tokenizer = type("Words", (), {"tokenize": lambda self, text: words_of(text, scoring)})
        scorer = RougeScorer(ROUGE, tokenizer=tokenizer())
    rouge = [
        [scores[name].fmeasure for name in ROUGE]
        for scores in (scorer.score(wanted, given) for wanted, given in zip(references, outputs, strict=True))
    ]
    return {
        "bleu": bleu.score / 100,
        "length_ratio": bleu.ratio,
        "chrf": sacrebleu.corpus_chrf(outputs, [references]).score / 100,
        **dict(zip(ROUGE, np.mean(rouge, axis=0), strict=True)),
        "distinct_1": distinct(outputs, scoring, 1),
        "distinct_2": distinct(outputs, scoring, 2),
        "empty_share": np.mean([each.split() == [] for each in outputs]),
    }


def distinct(outputs, scoring, size):
    found = []
    for each in outputs:
        words = words_of(each, scoring)
        found += [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(found)) / len(found) if found else 0.0


@pytest.mark.parametrize("scoring", SCORINGS)
def test_agreement_with_the_official_scorers(scoring, seed):
    fresh = random.Random(f"{seed} {scoring}")
    seen = set()
    for _ in range(1_000):
        outputs, references = corpus(fresh)
        theirs = official(outputs, references, scoring)
        ours = values(compared(outputs, references, scoring))
        for name, value in theirs.items():
            assert float(ours[name]) == pytest.approx(value, abs=1e-12), (name, outputs, references)
            seen.add((name, bool(value)))
    assert len(seen) == 2 * len(theirs)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_resample_is_scored_like_its_rows(scoring, seed):
    fresh = random.Random(f"{seed} {scoring}")
    for _ in range(50):
        outputs, references = corpus(fresh, 20)
        rows = len(outputs)
        cut = [fresh.random() < 0.3 for _ in outputs]
        log_probabilities = np.array([-20 * fresh.random() for _ in outputs])
        tokens = np.array([float(fresh.randint(0, 9)) for _ in outputs])
        many = compared(outputs, references, scoring, cut, log_probabilities, tokens).draw(
            np.random.default_rng(fresh.randrange(2**31)), 6
        )
        ours = values(many)
        for draw, weights in enumerate(many.counts.weights.astype(int)):
            chosen = np.repeat(np.arange(rows), weights)
            assert len(chosen) == rows
            theirs = official([outputs[row] for row in chosen], [references[row] for row in chosen], scoring)
            theirs["cut_share"] = np.mean([cut[row] for row in chosen])
            total = tokens[chosen].sum()
            theirs["perplexity"] = np.exp(-log_probabilities[chosen].sum() / total) if total else np.nan
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                np.testing.assert_allclose(ours[name][draw], value, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_rouge_of_many_sentences(scoring, seed):
    """Few different words: there are many longest subsequences, and rouge-score's choice among them counts."""
    fresh = random.Random(f"{seed} {scoring}")
    words = ["a", "b", "c", "d", "e"]

    def summary():
        return "\n".join(
            " ".join(fresh.choices(words, k=fresh.randint(0, 12))) for _ in range(fresh.randint(1, 6))
        )

    for _ in range(1_000):
        given, wanted = summary(), summary()
        theirs = RougeScorer(ROUGE, use_stemmer=True).score(wanted, given)
        (ours,) = rouge_scores([given], [wanted], scoring)
        assert ours.tolist() == [theirs[name].fmeasure for name in ROUGE], (given, wanted)


def test_perplexity_is_the_exponential_of_the_mean(seed):
    fresh = np.random.default_rng(seed)
    for _ in range(1_000):
        rows = int(fresh.integers(1, 20))
        tokens = fresh.integers(1, 30, rows)
        each = [np.log(fresh.random(count)) for count in tokens]
        sample = compared(
            ["a"] * rows, ["a"] * rows, log_probabilities=np.array([one.sum() for one in each]),
            tokens=tokens.astype(float),
        )  # fmt: skip
        expected = np.exp(-np.concatenate(each).mean())
        assert float(values(sample)["perplexity"]) == pytest.approx(expected, rel=1e-12)


def test_nobody_knows_the_perplexity_without_the_model():
    assert "perplexity" not in values(compared(["a"], ["a"]))
    assert "perplexity" not in values(compared(["a"], ["a"], tokens=np.array([1.0])))
    assert np.isnan(
        values(compared(["a"], [""], log_probabilities=np.zeros(1), tokens=np.zeros(1)))["perplexity"]
    )


def test_perfect_and_hopeless():
    same = ["A cat sat on the mat.", "The dog ran away."]
    best = score(compared(same, same), (), metrics_of("texts"), "rougeLsum", resamples=50).values
    assert {name: one.value for name, one in best.items() if not name.endswith("share")} == {
        "bleu": pytest.approx(1), "chrf": pytest.approx(1), "length_ratio": 1.0, **dict.fromkeys(ROUGE, 1.0),
    }  # fmt: skip
    for outputs, references in ((["", " "], same), (same, ["", ""]), (["", ""], ["", ""])):
        worst = score(compared(outputs, references), (), metrics_of("replies"), "bleu", resamples=50).values
        for name in ("bleu", "chrf", "length_ratio", *ROUGE):
            assert worst[name].value == worst[name].low == worst[name].high == 0, name
        assert worst["empty_share"].value == (outputs != same)


def test_shares():
    found = values(compared(["", "a", "\u3000\n", "b b"], ["a"] * 4, cut=[True, False, False, False]))
    assert found["empty_share"] == 0.5 and found["cut_share"] == 0.25
    assert found["distinct_1"] == 2 / 3 and found["distinct_2"] == 1.0


def test_what_may_be_primary():
    assert check_primary("rougeLsum", "texts") and check_primary("perplexity", "replies")
    assert "distinct_1" not in values(compared(["a"], ["a"]), "texts")
    for value in ("length_ratio", "empty_share", "cut_share", "distinct_1"):
        with pytest.raises(ValueError, match="must be one of bleu, chrf, perplexity, rouge1"):
            check_primary(value, "replies")
    sample = compared(["a"], ["a"], log_probabilities=-np.ones(1), tokens=np.ones(1))
    for primary, greater in (("bleu", True), ("perplexity", False)):
        scores = score(sample, (), metrics_of("texts"), primary, resamples=5)
        assert scores.greater_is_better is greater


@pytest.mark.parametrize(
    ("expected", "references"),
    [
        ("english", []),
        ("english", ["", "12 $"]),
        ("english", ["A plain sentence."] * 60 + ["Beyoncé sang in São Paulo."]),
        ("words", ["Über den Wolken muss die Freiheit grenzenlos sein."]),
        ("words", ["Привет, мир"]),
        ("words", ["안녕하세요 세계"]),
        ("words", ["हिन्दी एक भाषा है"]),
        ("characters", ["我在北京大学用iPhone6"]),
        ("characters", ["ラーメンを食べたい"]),
        ("characters", ["ภาษาไทยง่าย"]),
        ("characters", ["ភាសាខ្មែរ", "ພາສາລາວ", "မြန်မာဘာသာ"]),
        ("words", ["北京 is the capital of China"]),
    ],
)
def test_the_letters_suggest_how_to_score(expected, references):
    assert scoring_of(iter(references)) == expected


def test_words():
    assert words_of("Müllers U.S. हिन्दी 1,000", "words") == ["müllers", "u", "s", "हिन्दी", "1", "000"]
    assert words_of("iPhone6在北京。ラーメン 한국", "characters") == [
        "iphone6", "在", "北", "京", "ラ", "ー", "メ", "ン", "한", "국",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("我在北京大学读书", "我在北京大学学习"),
        ("ภาษาไทยง่ายมาก", "ภาษาไทยง่าย"),
        ("ラーメンを食べたいです", "ラーメンを食べたい"),
        ("ភាសាខ្មែរងាយ", "ភាសាខ្មែរ"),
    ],
)
def test_scripts_without_spaces_are_not_silently_zero(given, wanted):
    found = values(compared([given], [wanted], "characters"))
    assert found["bleu"] > 0.3 and min(found[name] for name in ROUGE) > 0.5


def test_chinese_is_scored_exactly_as_sacrebleu_does():
    outputs, references = ["我在北京大学读书。", "it’s iPhone6"], ["我在北京大学学习。", "it's iPhone 6"]
    theirs = sacrebleu.corpus_bleu(outputs, [references], tokenize="zh").score
    assert values(compared(outputs, references, "characters"))["bleu"] == pytest.approx(theirs / 100)


def test_signatures_say_how_it_was_done():
    version = sacrebleu.__version__
    found = signatures("english")
    assert found["bleu"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert found["chrf"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    assert "stem:porter" in found["rouge"] and "rouge-score.0.1.2" in found["rouge"]
    assert "tok:13a" in signatures("words")["bleu"] and "stem:no" in signatures("words")["rouge"]
    assert (
        "tok:zh" in signatures("characters")["bleu"] and "tok:characters" in signatures("characters")["rouge"]
    )


def test_refusals():
    with pytest.raises(DataError, match="there are no rows to score"):
        compared([], [])
    with pytest.raises(DataError, match="2 texts need as many references"):
        compared(["a", "b"], ["a"])
    with pytest.raises(DataError, match="1 texts need as many"):
        compared(["a"], ["a"], tokens=np.ones(2))


def test_a_thousand_rows_have_their_intervals_in_seconds(seed):
    fresh = random.Random(seed)
    words = [f"word{number}" for number in range(2_000)]
    rows = [" ".join(fresh.choices(words, k=30)) for _ in range(1_000)]
    sample = compared(rows, rows[1:] + rows[:1])
    start = time.perf_counter()
    assert score(sample, (), metrics_of("replies"), "bleu", resamples=2_000).rows == 1_000
    seconds = time.perf_counter() - start
    print(f"{seconds:.2f} s")
    # Far below 1 s when nothing else runs.
    assert seconds < 4


def test_the_interval_of_variety_holds_its_value_however_many_are_drawn_at_once(seed, monkeypatch):
    fresh = random.Random(seed)
    sample = compared([" ".join(fresh.choices("abcdefghij", k=4)) for _ in range(40)], ["x"] * 40)

    def measured():
        return score(sample, (), metrics_of("replies"), "bleu", resamples=300, seed=1).values["distinct_2"]

    together = measured()
    monkeypatch.setattr("graftlm.scoring.bootstrap.NUMBERS_AT_ONCE", 1)
    alone = measured()
    assert together.low < together.value < together.high
    assert alone.low < alone.value < alone.high
    assert alone.high - alone.low == pytest.approx(together.high - together.low, rel=0.3)
