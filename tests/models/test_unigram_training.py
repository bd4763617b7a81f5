from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from tests.models.raw_text import DATA, MISSING, novel, sentences
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from graftlm.models import unigram_training
from graftlm.models.unigram_training import _Graph, _substrings, train_unigram


def segmentations(string, known):
    if not string:
        yield ()
    for end in range(1, len(string) + 1):
        if string[:end] in known:
            yield from ((string[:end], *rest) for rest in segmentations(string[end:], known))


def counted(texts):
    return Counter(f"▁{word}" for text in texts for word in text.split())


def letters(words):
    return sorted({letter for word in words for letter in word})


def tokens(vocabulary, words):
    """Tokens of all words together, by the library."""
    model = models.Unigram([("<unk>", -1000.0), *vocabulary.items()], unk_id=0)
    return sum(count * len(model.tokenize(word)) for word, count in words.items())


def test_expected_counts_and_best_segmentations_are_those_of_all_segmentations(seed):
    random_ = random.Random(seed)
    strings = ["".join(random_.choices("abc", k=random_.randint(1, 7))) for _ in range(25)]
    pieces = [
        *"abc",
        *{string[i:j] for string in strings for i in range(7) for j in range(i + 2, 8)} - {"", *"abc"},
    ]
    pieces = sorted(set(pieces), key=lambda piece: (len(piece), piece))
    scores = np.array([random_.uniform(-5, -1) for _ in pieces])
    counts = np.array([random_.randint(1, 9) for _ in strings], dtype=float)
    index = {piece: number for number, piece in enumerate(pieces)}
    alive = np.array([len(piece) == 1 or random_.random() < 0.7 for piece in pieces])
    living = {piece for piece in pieces if alive[index[piece]]}

    def weights(string, banned=None):
        return {
            way: sum(scores[index[piece]] for piece in way)
            for way in segmentations(string, living - {banned})
        }

    expected = np.zeros(len(pieces))
    for string, count in zip(strings, counts, strict=True):
        ways = weights(string)
        whole = sum(map(math.exp, ways.values()))
        for way, weight in ways.items():
            for piece in way:
                expected[index[piece]] += count * math.exp(weight) / whole
    found = _Graph.of(strings, index, whole=True).kept(alive).expected(scores, counts)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    best = _Graph.of(pieces, index, whole=False).kept(alive, strings=alive).best(scores)
    for number, piece in enumerate(pieces):
        if alive[number] and len(piece) > 1:
            assert best[number] == pytest.approx(max(weights(piece, banned=piece).values()))


@pytest.mark.parametrize("frequency", [1, 2, 5])
def test_substrings(seed, frequency):
    words = counted(sentences(seed, 40))
    expected = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(len(word), start + 16) + 1):
                expected[word[start:end]] += count
    assert _substrings(words, frequency) == {piece: n for piece, n in expected.items() if n >= frequency}


def test_the_vocabulary(seed):
    words = counted(sentences(seed, 300))
    characters = [*letters(words), "☃"]
    found = train_unigram(words, characters, 150, 2)
    assert len(found) == 150 and set(characters) <= set(found)
    assert list(found) == sorted(found, key=lambda piece: (-found[piece], piece))
    assert all(score < 0 for score in found.values())
    shuffled = list(words.items())
    random.Random(seed).shuffle(shuffled)
    again = train_unigram(dict(shuffled), characters, 150, 2)
    assert list(again.items()) == list(found.items())
    larger = train_unigram(words, characters, 200, 2)
    assert tokens(larger, words) < tokens(found, words) < tokens(dict.fromkeys(characters, -1.0), words)


def test_too_few_pieces_are_of_use():
    words = {"▁ab": 3, "▁abab": 2}
    found = train_unigram(words, ["▁", "a", "b"], 100, 2)
    assert {"▁", "a", "b"} < set(found) and len(found) < 12


def test_long_runs_and_many_words_are_cut(seed, monkeypatch):
    random_ = random.Random(seed)
    runs = {"".join(random_.choices("的一是不了人我在有他", k=500)): 1 for _ in range(8)}
    found = train_unigram(runs, sorted("的一是不了人我在有他"), 60, 2)
    assert len(found) == 60
    monkeypatch.setattr(unigram_training, "MOST_CHARACTERS", 12)
    words = {"▁often": 9, "▁some": 5, "▁seldom": 2}
    assert "▁often" in (found := train_unigram(words, sorted(set("".join(words))), 100, 2))
    assert not any("sel" in piece for piece in found)


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason=MISSING)
def test_it_is_no_worse_than_the_library():
    words = counted(list(novel())[:1500])
    ours = train_unigram(words, letters(words), 800, 2)
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.UnigramTrainer(
        vocab_size=801, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator((f"{word} " * count for word, count in words.items()), trainer)
    theirs = {token: -1.0 for token in backend.get_vocab() if token != "<unk>"}
    assert len(ours) == 800 and len(theirs) in (799, 800)
    library = sum(count * len(backend.model.tokenize(word)) for word, count in words.items())
    assert tokens(ours, words) < 1.01 * library
    assert len(set(ours) & set(theirs)) > 500
