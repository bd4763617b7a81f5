from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from graftlm.checking.findings import Finding, check_dataset, require_clean
from graftlm.checking.swallowed_rows import swallows_rows
from graftlm.data.dataset import Dataset, Split
from graftlm.data.roles import Role
from graftlm.errors import DataError
from graftlm.tasks.question_answering import QuestionAnswering

CLEAN = [(f"text number {i}", "ab"[i % 2]) for i in range(40)]


def test_clean_data_have_notes_only(check):
    found = check(train=CLEAN, test=[("another", "a"), ("one more", "b")])
    assert set(found) == {"label_counts", "small_split"}
    assert found["label_counts"][0].message == "train: 2 labels: 'a' 20, 'b' 20"
    assert "50.0 %" in found["small_split"][0].message
    require_clean([finding for group in found.values() for finding in group])


def test_empty_texts(check):
    found = check(train=[*CLEAN, ("", "a"), (" \n\u3000", "b")], test=[("\t", "a"), ("fine", "b")])
    train, test = found["empty_text"]
    assert (train.severity, train.count, train.places) == ("error", 2, ["train.csv:42", "train.csv:43"])
    assert (test.count, test.places) == (1, ["test.csv:2"])


def test_unseen_labels(check):
    test = [("one", "aa"), ("two", "c"), ("three", "a"), ("four", "c")]
    (finding,) = check(train=[*CLEAN, ("x", "label aa")], test=test)["unseen_label"]
    assert finding.severity == "error"
    assert finding.count == 3
    assert finding.places == ["test.csv:2", "test.csv:3", "test.csv:5"]
    assert "3 rows with 2 labels that train never has: 'aa' (1)" in finding.message
    assert "'c' (2)" in finding.message
    assert finding.message.endswith("known: 'a', 'b', 'label aa'")


def test_one_class_and_empty_split(check):
    assert check(train=[("a", "x"), ("b", "x")])["one_class"][0].places == ["train.csv:2"]
    assert set(check(train=CLEAN, test=[])) == {"empty_split"}


def test_odd_characters(check):
    rows = [
        *CLEAN,
        ("cut \ud83d", "a"),
        ("bell \x07 nul \0", "b"),
        ("was \ufffd once", "a"),
        ("tab\tline\u2028\x85", "b"),
    ]
    found = check(train=rows)
    assert found["lone_surrogate"][0].places == ["train.csv:42"]
    assert found["lone_surrogate"][0].severity == "error"
    assert found["control_characters"][0].places == ["train.csv:43"]
    assert found["replacement_characters"][0].places == ["train.csv:44"]
    assert [
        found[kind][0].count for kind in ("lone_surrogate", "control_characters", "replacement_characters")
    ] == [1] * 3


def test_label_spelling_rarity_and_imbalance(check):
    rows = [(f"t {i}", "pos") for i in range(60)] + [(f"u {i}", "neg") for i in range(6)]
    rows += [("v", " pos"), ("w", "POS"), ("x", "rare")]
    found = check(train=rows)
    (similar,) = found["similar_labels"]
    assert "'pos' (60) / ' pos' (1) / 'POS' (1)" in similar.message
    assert (similar.severity, similar.count) == ("warning", 1)
    (rare,) = found["rare_label"]
    assert rare.message == "3 labels with fewer than 5 training rows: ' pos' (1), 'POS' (1), 'rare' (1)"
    assert rare.places == ["train.csv:68", "train.csv:69", "train.csv:70"]
    assert "60 times as many rows" in found["imbalance"][0].message
    assert "answering 'pos' is right in 87.0 % of rows" in found["imbalance"][0].message


def test_labels_absent_from_test(check):
    (finding,) = check(train=CLEAN, test=[("x", "a")])["unmeasured_label"]
    assert (finding.severity, finding.count) == ("note", 1)
    assert finding.message.endswith("for which nothing is measured: 'b'")


@pytest.mark.parametrize("repeat", range(5))
def test_duplicates_are_counted_exactly(repeat: int, check, fresh: random.Random):
    texts = [f"Unique text {i} \u00e9" for i in range(400)]
    train = [(text, fresh.choice("abc")) for text in texts[:300]]
    test = [(text, fresh.choice("abc")) for text in texts[300:]]
    repeats = fresh.sample(train, 20)
    train += repeats
    conflicts = fresh.sample(train[:300], 7)
    train += [(text.upper(), {"a": "b", "b": "c", "c": "a"}[label]) for text, label in conflicts]
    leaked = fresh.sample([row for row in train[:300] if row not in conflicts], 11)
    test += [(f" {text.replace('u00e9', 'e').lower()}\t", label) for text, label in leaked]
    fresh.shuffle(train)
    found = check(train=train, test=test)
    (shared,) = found["same_text_in_two_splits"]
    assert (shared.severity, shared.count) == ("warning", 11)
    assert "test: 11 rows of 111 with a text that is also in train" in shared.message
    assert len(shared.places) == 10
    for place in shared.places:
        there, here = (int(part.rpartition(":")[2]) - 2 for part in place.split(" = "))
        assert test[there][0].strip() == train[here][0].lower()
    (duplicates,) = found["duplicate_rows"]
    assert duplicates.count == sum(count - 1 for count in Counter(train).values()) == 20
    (conflicting,) = found["conflicting_labels"]
    assert conflicting.count == 7
    assert "('" in conflicting.places[0]


def test_a_context_asked_about_in_two_splits():
    def split(name: str, contexts: str) -> Split:
        columns: dict[str, list[object]] = {
            "question": [f"Which of {name} {number}?" for number in range(len(contexts))],
            "context": [f"It was {each}." for each in contexts],
            "answers": [((each, 7),) for each in contexts],
        }
        return Split(name, columns, [f"{name}.jsonl:{number + 1}" for number in range(len(contexts))])

    dataset = Dataset({"train": split("train", "aabc"), "test": split("test", "xyzca")}, "memory")
    findings = check_dataset(dataset, QuestionAnswering.roles)
    (found,) = [each for each in findings if each.kind == "same_context_in_two_splits"]
    assert (found.severity, found.count) == ("warning", 2)
    assert "test: 2 rows of 5 with a context that is also in train" in found.message
    assert found.places == ["test.jsonl:4 = train.jsonl:4", "test.jsonl:5 = train.jsonl:1"]


def test_conflicts_across_splits(check):
    (finding,) = check(train=CLEAN, test=[("TEXT number 0", "b"), ("y", "a")])["conflicting_labels"]
    assert finding.places == ["train.csv:2 ('a') and test.csv:2 ('b')"]


@pytest.mark.parametrize(
    ("text", "swallowed"),
    [
        ("bad one,neg\nso so,pos\nmeh", True),
        ("bad one,neg\r\nmeh", True),
        ('bad one;neg\n"so, so";"pos"\n', True),
        ("started\nneg,second\npos,third", True),
        ("two\nlines", False),
        ("Dear all,\nthanks,\nyours,pos", False),
        ("bad one,neg\njust a line\nmeh", False),
        ("bad one,other\nmeh", False),
        (",neg\n,pos\n", False),
    ],
)
def test_swallowed_rows(check, text: str, swallowed: bool):
    assert swallows_rows(text, {"neg", "pos"}) is swallowed
    rows = [*CLEAN, (text, "pos"), ("fine", "neg")]
    found = check(train=rows)
    assert ("swallowed_rows" in found) is swallowed
    if swallowed:
        assert found["swallowed_rows"][0].places == ["train.csv:42"]
        assert found["swallowed_rows"][0].severity == "error"
    # JSON Lines cannot swallow rows: a text there is meant.
    assert "swallowed_rows" not in check("jsonl", train=rows)


def test_errors_come_first_and_are_raised_together(check):
    found = check(train=[*CLEAN, ("", "a"), *[("same", "a")] * 2], test=[("x", "zzz")])
    findings = [finding for group in found.values() for finding in group]
    order = [finding.severity for finding in findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    with pytest.raises(DataError) as caught:
        require_clean(findings)
    message = str(caught.value)
    assert "(2 problems)" in message
    assert "train: 1 row with an empty text. First: train.csv:42. What to do: give" in message
    assert "that train never has: 'zzz' (1)" in message
    assert "duplicate" not in message


def test_a_hundred_places_are_counted_not_listed(check):
    (finding,) = check(train=[*CLEAN, *[("", "a")] * 100])["empty_text"]
    assert (finding.count, len(finding.places)) == (100, 10)
    assert str(finding).count("train.csv:") == 10
    assert "and 90 more" in str(finding)


def test_linear_in_the_rows(fresh: random.Random):
    def seconds(rows: int) -> float:
        texts: list[object] = [f"text {i % (rows // 2)} {'y' * (i % 7)}" for i in range(rows)]
        columns = {"text": texts, "label": [str(i % 300) for i in range(rows)]}
        split = Split("train", columns, [f"a.csv:{i}" for i in range(rows)])
        started = time.process_time()
        check_dataset(Dataset({"train": split}, "memory"), (Role("text", "text"), Role("label", "label")))
        return time.process_time() - started

    seconds(1_000)
    # Sixteen times the rows: about 16 times the time if linear, 256 times if quadratic.
    assert seconds(64_000) < 80 * max(seconds(4_000), 0.005)


def test_finding_reads_as_a_sentence():
    finding = Finding("warning", "kind", "train: 3 rows odd", 3, ["a:1", "a:2"], "look at them")
    assert str(finding) == "train: 3 rows odd. First: a:1, a:2 and 1 more. What to do: look at them."


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["['a']", "['a', 'b']", "[]"], "written_list"),
        (["a", "b", "a|b"], "joined_labels"),
        (["a; b", "b; a"], "joined_labels"),
        (["a,b", "b,c", "a,c"], "joined_labels"),
        (["-1", "0", "1", "2"], "placeholder_label"),
        (["a", "NaN"], "placeholder_label"),
        (["-1", "0", "1"], None),
        (["trade, commerce", "farming", "trade, retail"], None),
        (["none", "[a]", "a-1"], None),
    ],
)
def test_names_that_look_like_something_else(check, labels: list[str], kind: str | None):
    found = check(train=[(f"text {row}", label) for row, label in enumerate(labels * 6)])
    kinds = set(found) & {"written_list", "joined_labels", "placeholder_label"}
    assert kinds == ({kind} if kind else set())
    if kind:
        assert found[kind][0].severity == "warning"
        assert found[kind][0].places[0].startswith("train.csv:")
