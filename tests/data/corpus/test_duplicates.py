"""Documents that were there before, against sets of all texts and of all word sequences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from graftlm.data.corpus.duplicates import BANDS, LEAST_OVERLAP, band_keys, open_duplicates, signature
from graftlm.data.corpus.first_seen import FirstSeen

ENGLISH = [f"word{number}" for number in range(2_000)]
CHINESE = [chr(0x4E00 + number) for number in range(2_000)]


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    sets = [{tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def edited(draw: random.Random, words: Sequence[str], changes: int, vocabulary: Sequence[str]) -> list[str]:
    changed = list(words)
    for at in draw.sample(range(len(words)), changes):
        changed[at] = draw.choice(vocabulary)
    return changed


@pytest.mark.parametrize("key_type", [np.uint64, np.uint32])
def test_table_remembers_who_was_first(key_type: type[np.uint64 | np.uint32], seed: int) -> None:
    draw = np.random.default_rng(seed)
    table = FirstSeen(3, key_type, slots=1 << 3)
    expected: list[dict[int, int]] = [{}, {}, {}]
    largest = int(np.iinfo(key_type).max)
    # Keys whose homes are one slot, the last, so that probes reach behind it; and 0, which is no key of its own.
    crowded = [largest - number for number in range(40)]
    pool = np.array(
        [0, *crowded, *draw.integers(2, largest, 1_500, dtype=np.uint64).tolist()], dtype=np.uint64
    )
    for document in range(3_000):
        keys = draw.choice(pool, 3)
        known = [old[int(key)] for old, key in zip(expected, keys, strict=True) if int(key) in old]
        assert table.holders(keys).tolist() == known
        assert table.add(keys, document) == (len(known) < 3)
        for old, key in zip(expected, keys, strict=True):
            old.setdefault(int(key), document)


def test_exact(fresh: random.Random, tmp_path: Path) -> None:
    duplicates = open_duplicates("exact", tmp_path)
    known: set[str] = set()
    for _ in range(2_000):
        words = [
            fresh.choice(["Tree", "tree", "été", "e\u0301te\u0301", "天"]) for _ in range(fresh.randint(1, 5))
        ]
        text = fresh.choice([" ", "\n", "  "]).join(words)
        plain = " ".join(words).lower().replace("e\u0301", "é")
        assert duplicates.seen(text) == (plain in known)
        known.add(plain)
    assert duplicates.exact == 2_000 - len(known)
    assert duplicates.near == 0


@pytest.mark.parametrize(
    ("vocabulary", "between"), [(ENGLISH, " "), (CHINESE, "")], ids=["english", "chinese"]
)
def test_near(vocabulary: list[str], between: str, fresh: random.Random, tmp_path: Path) -> None:
    duplicates = open_duplicates("near", tmp_path)
    originals = [fresh.choices(vocabulary, k=fresh.randint(60, 600)) for _ in range(40)]
    assert not any(duplicates.seen(between.join(words)) for words in originals)
    near = 0
    for words in originals:
        same = between.join(words)
        assert duplicates.seen(f"  {same.upper()}\n")
        assert duplicates.seen(f"{same}!?")
        near += 1  # punctuation is in no word
        for share in (0.005, 0.3):
            other = edited(fresh, words, max(1, int(share * len(words))), vocabulary)
            shared = overlap(words, other)
            if abs(shared - LEAST_OVERLAP) > 0.16:  # 4 standard errors of the estimate
                found = duplicates.seen(between.join(other))
                assert found == (shared > LEAST_OVERLAP), shared
                near += found
    assert duplicates.exact == len(originals)
    assert duplicates.near == near
    duplicates.close()
    assert not list(tmp_path.iterdir())


def test_signature_estimates_the_overlap(fresh: random.Random) -> None:
    differences: list[float] = []
    for _ in range(60):
        words = fresh.choices(ENGLISH, k=300)
        other = edited(fresh, words, fresh.randint(1, 40), ENGLISH)
        one, two = signature(" ".join(words)), signature(" ".join(other))
        shared = overlap(words, other)
        differences.append(float(np.mean(one == two)) - shared)
        if shared > 0.9:
            assert (band_keys(one) == band_keys(two)).any()
    assert abs(np.mean(differences)) < 4 * 0.05 / len(differences) ** 0.5
    assert np.std(differences) < 0.08
    assert band_keys(one).shape == (BANDS,)


def test_short_texts_are_compared_whole(tmp_path: Path) -> None:
    duplicates = open_duplicates("near", tmp_path)
    assert [duplicates.seen(text) for text in ("Hello, you", "hello you!", "hello", "...", "?!", "hello there")] == [
        False, True, False, False, True, False,
    ]  # fmt: skip
    duplicates.close()


def test_keep(tmp_path: Path) -> None:
    duplicates = open_duplicates("keep", tmp_path)
    assert [duplicates.seen("a"), duplicates.seen("a"), duplicates.exact, duplicates.near] == [
        False,
        False,
        0,
        0,
    ]
