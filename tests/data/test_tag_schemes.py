"""Every scheme says the same entities; what is out of place is read as conlleval reads it, and counted."""

from __future__ import annotations

import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from graftlm.data.tag_schemes import entity_types, mark_entities, read_scheme, repaired, spans_of


def written(spans, length, scheme):
    """Tags of one row in a scheme."""
    tags = ["O"] * length
    before = ("", -1)
    for kind, first, after in spans:
        inside = "M" if scheme == "BMES" else "I"
        last, single = {"BILOU": ("L", "U")}.get(scheme, ("E", "S"))
        marks = ["B", *[inside] * (after - first - 1)]
        if scheme == "IOB1" and before != (kind, first):
            marks[0] = "I"
        if scheme in ("BIOES", "BILOU", "BMES"):
            marks[-1] = last
            if after - first == 1:
                marks = [single]
        tags[first:after] = [f"{mark}-{kind}" for mark in marks]
        before = (kind, after)
    return tags


def spans(source, length):
    found, word = [], 0
    while word < length:
        size = source.randint(1, 3)
        if word + size <= length and source.random() < 0.6:
            found.append((source.choice(("PER", "LOC", "creative-work")), word, word + size))
            word += size
        else:
            word += 1
    return found


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_every_scheme_is_recognised_and_says_the_same(scheme, seed):
    source = random.Random(seed)
    for _ in range(300):
        rows = [spans(source, 12) for _ in range(20)]
        # Two entities of one type side by side, so that no two schemes agree.
        rows.append([("PER", 0, 1), ("PER", 1, 4), ("LOC", 4, 7)])
        reading = read_scheme([written(row, 12, scheme) for row in rows])
        assert reading.scheme == scheme
        assert not reading.misplaced
        assert [spans_of(tags) for tags in reading.rows] == rows
        assert list(reading.rows) == [tuple(written(row, 12, "IOB2")) for row in rows]


def test_any_tags_are_read_as_conlleval_reads_them(seed):
    source = random.Random(seed)
    for alphabet in ("BIO", "BIESO"):
        for _ in range(2_000):
            marks = source.choices(alphabet, k=source.randint(1, 8))
            tags = [mark if mark == "O" else f"{mark}-{source.choice('XY')}" for mark in marks]
            theirs = [(kind, first, last + 1) for kind, first, last in get_entities(tags)]
            assert spans_of(repaired(tags)) == theirs, tags


def test_prefixes_alone_are_read_as_seqeval_reads_them(seed):
    source = random.Random(seed)
    for alphabet in ("BIO", "BIESO"):
        for _ in range(1_000):
            tags = source.choices(alphabet, k=source.randint(1, 8))
            theirs = [(kind, first, last + 1) for kind, first, last in get_entities(tags)]
            assert spans_of(repaired(tags)) == theirs, tags
    assert read_scheme([["B", "I", "O", "B"]]).rows == [("B-_", "I-_", "O", "B-_")]


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-A O", True), ("B I O", True), ("I O", True), ("O", False), ("B I", False), ("N V O", False),
        ("S O", False), ("B B-A O", False), ("B-A", True), ("S U E", False),
    ],
)  # fmt: skip
def test_letters_alone_are_entities_beside_o_only(tags, entities):
    assert mark_entities(tags.split()) == entities


def test_tags_out_of_place_are_counted_with_their_places():
    reading = read_scheme([["B-A", "I-A", "O"], ["O", "I-A", "I-B"], ["B-A", "B-A", "O"]])
    assert reading.scheme == "IOB2"
    assert [(each.row, each.word, each.tag, each.before) for each in reading.misplaced] == [
        (1, 1, "I-A", "O"), (1, 2, "I-B", "I-A"),
    ]  # fmt: skip
    reading = read_scheme([["B-A", "M-A", "E-A"], ["B-A", "O", "S-A"], ["B-A"]])
    assert [(each.row, each.word, each.before) for each in reading.misplaced] == [
        (1, 1, "B-A"),
        (2, 1, "B-A"),
    ]
    assert reading.scheme == "BMES"


def test_types_and_tags_that_mark_nothing():
    assert entity_types(["O", "B-creative-work", "I-PER", "B-PER"]) == ("PER", "creative-work")
    with pytest.raises(ValueError, match="'NN'"):
        read_scheme([["O", "NN"]])
