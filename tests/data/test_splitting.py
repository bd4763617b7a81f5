"""Carving: a partition, no text on both sides, the right share, and the same rows whatever their order."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from graftlm.data.assembling import assemble
from graftlm.data.dataset import Dataset
from graftlm.data.loading import read_tables
from graftlm.data.normalising import normalised, text_keys
from graftlm.data.options import DataOptions
from graftlm.data.roles import Role
from graftlm.data.splitting import bind_rows, carve
from graftlm.data.table import Table, Tables
from graftlm.errors import DataError

ROLES = (Role("text", "text"), Role("label", "label"))


def dataset_of(
    rows: list[tuple[str, str]], seed: int = 0, groups: list[str] | None = None, **options: object
) -> Dataset:
    columns: dict[str, list[object]] = {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}
    if groups is not None:
        columns["group"] = list(groups)
        options["group_column"] = "group"
    table = Table("rows", columns, None, typed=True)
    return assemble(Tables({"all": table}, "rows"), ROLES, DataOptions.model_validate(options), seed)


def random_rows(fresh: random.Random) -> list[tuple[str, str]]:
    """Rows with repeats in other case and spacing, conflicting labels, and labels of very different sizes."""
    labels = [f"label {i}" for i in range(fresh.randint(2, 30))]
    weights = [fresh.random() ** 3 + 0.01 for _ in labels]
    texts = [f"text {i} \u00c9 {'x' * fresh.randint(0, 5)}" for i in range(fresh.randint(20, 700))]
    rows = [(text, fresh.choices(labels, weights)[0]) for text in texts]
    for text, label in fresh.choices(rows, k=len(rows) // 5):
        other = fresh.choice(
            [text, text.upper(), f"  {text}", text.replace(" ", "\t"), text.replace("\u00c9", "E\u0301")]
        )
        rows.append((other, label if fresh.random() < 0.8 else fresh.choice(labels)))
    fresh.shuffle(rows)
    return rows


def texts_of(dataset: Dataset) -> dict[str, set[str]]:
    return {
        name: {normalised(str(text)) for text in split.columns["text"]}
        for name, split in dataset.splits.items()
    }


@pytest.mark.parametrize("repeat", range(12))
def test_properties(repeat: int, fresh: random.Random):
    rows, seed = random_rows(fresh), fresh.randrange(1000)
    dataset = dataset_of(rows, seed)
    # A partition of the rows, in the order of the file within each split.
    numbers = {
        name: [int(place.split()[-1]) - 1 for place in split.row_ids]
        for name, split in dataset.splits.items()
    }
    assert sorted(number for split in numbers.values() for number in split) == list(range(len(rows)))
    assert all(split == sorted(split) for split in numbers.values())
    for name, split in dataset.splits.items():
        assert [rows[number] for number in numbers[name]] == list(zip(*split.columns.values(), strict=True))
    # No text on two sides.
    sides = list(texts_of(dataset).values())
    assert sum(map(len, sides)) == len(set.union(*sides))
    # Shares: within one unit per label of small sizes, and two per cent of the rows.
    tolerance = 0.02 * len(rows) + 6
    assert abs(len(dataset.splits["test"]) - 0.2 * len(rows)) <= tolerance
    assert abs(len(dataset.splits["validation"]) - 0.1 * 0.8 * len(rows)) <= tolerance
    # Every label stays in train.
    assert set(dataset.splits["train"].columns["label"]) == {label for _, label in rows}
    # Another order of rows, the same split.
    shuffled = fresh.sample(rows, len(rows))
    again = dataset_of(shuffled, seed)
    assert texts_of(again) == texts_of(dataset)
    # Another seed, another split.
    assert texts_of(dataset_of(rows, seed + 1))["test"] != texts_of(dataset)["test"]


def test_stratified(fresh: random.Random):
    rows = [
        (f"text {i} {fresh.random()}", label)
        for label, n in (("a", 700), ("b", 250), ("c", 50))
        for i in range(n)
    ]
    test = Counter(dataset_of(rows).splits["test"].columns["label"])
    assert test.total() == 200
    assert all(abs(test[label] - expected) <= 1 for label, expected in (("a", 140), ("b", 50), ("c", 10)))


def test_many_small_labels_add_up(fresh: random.Random):
    rows = [
        (f"text {label} {i} {fresh.random()}", f"label {label}") for label in range(150) for i in range(4)
    ]
    dataset = dataset_of(rows, test_share=0.1, validation_share=0)
    assert 55 <= len(dataset.splits["test"]) <= 60
    assert max(Counter(dataset.splits["test"].columns["label"]).values()) == 1
    assert "No validation split: data.validation_share is 0." in dataset.decisions


def test_labels_of_one_text_stay_in_train(fresh: random.Random):
    rows = [(f"text {i} {fresh.random()}", "common") for i in range(100)]
    rows += [(f"single {i}", f"rare {i}") for i in range(100)]
    rows += [("said ten times", "repeated")] * 10
    dataset = dataset_of(rows)
    train = set(dataset.splits["train"].columns["label"])
    assert len(train) == 102
    assert set(dataset.splits["test"].columns["label"]) == {"common"}
    # What the rare labels cannot spare is not taken from the common one.
    assert 18 <= len(dataset.splits["test"]) <= 22


@pytest.mark.parametrize("repeat", range(5))
def test_groups_stay_together(repeat: int, fresh: random.Random):
    rows = [(f"text {i} {fresh.random()}", fresh.choice("ab")) for i in range(600)]
    rows += [(rows[i][0].upper(), rows[i][1]) for i in range(20)]
    groups = [f"author {fresh.randrange(80)}" for _ in rows]
    dataset = dataset_of(rows, 3, groups)
    author_of = dict(zip((f"rows, row {i + 1}" for i in range(len(rows))), groups, strict=True))
    sides = [{author_of[place] for place in split.row_ids} for split in dataset.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(groups))
    texts = list(texts_of(dataset).values())
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert abs(len(dataset.splits["test"]) - 124) < 60
    assert any("groups of 'group' kept together" in decision for decision in dataset.decisions)


def test_large_groups_are_taken_to_the_nearest():
    keys = text_keys([[f"text {i}" for i in range(1000)]])
    units = bind_rows(keys, [i // 100 for i in range(1000)])
    rows, stay = carve(units, ["a" if i % 2 else "b" for i in range(1000)], 0.1)
    assert len(rows) == 100
    assert len({row // 100 for row in rows}) == 1
    assert sorted(rows + stay.all_rows()) == list(range(1000))


def test_groups_and_equal_texts_bind_through_each_other():
    keys = text_keys([["one", "two", "two", "three", "four"]])
    units = bind_rows(keys, ["x", "x", "y", "y", "z"])
    assert sorted(sorted(units.members(unit)) for unit in units.firsts) == [[0, 1, 2, 3], [4]]


def test_known_carve_is_the_same_on_every_machine():
    dataset = dataset_of([(f"text {i}", "ab"[i % 2]) for i in range(20)], seed=7)
    assert dataset.splits["test"].columns["text"] == KNOWN_TEST
    assert dataset.decisions[1:] == [
        "Test: 4 rows of 20 set aside (data.test_share=0.2, seed 7, by label).",
        "Validation: 2 rows of 16 set aside (data.validation_share=0.1, seed 7, by label), "
        "so that the test split selects nothing.",
    ]


KNOWN_TEST = ["text 2", "text 3", "text 13", "text 14"]


@pytest.mark.parametrize("size", [4, 6, 9])
def test_tiny_data_give_at_least_one_row_each(size: int):
    dataset = dataset_of([(f"text {i}", "ab"[i % 2]) for i in range(size)])
    assert all(len(split) >= 1 for split in dataset.splits.values())
    assert set(dataset.splits["train"].columns["label"]) == {"a", "b"}


def test_too_little_to_carve():
    with pytest.raises(
        DataError, match=r"no test split can be carved from 2 rows .*\n.*data\.test=FILE.*test_share=0"
    ):
        dataset_of([("one", "a"), ("two", "b")])
    with pytest.raises(DataError, match="3 rows of train: they form 2 independent texts"):
        dataset_of([("one", "a"), ("ONE", "a"), ("two", "b")], test_share=0)
    whole = dataset_of([("one", "a"), ("two", "b")], test_share=0, validation_share=0)
    assert list(whole.splits) == ["train"]
    assert len(whole.decisions) == 3


def test_bad_groups(in_folder: Path):
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(20)]
    with pytest.raises(DataError, match=r"'group' names no group in 1 row .*first: rows, row 3\n"):
        dataset_of(rows, 0, ["x", "y", "", *["z"] * 17])
    with pytest.raises(DataError, match=r"no test split can be carved .* they form 1 independent"):
        dataset_of(rows, 0, ["all"] * 20)


def test_empty_texts_are_dropped_on_demand():
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(20)]
    rows[3:3] = [(" \n", "a"), ("", "b")]
    dataset = dataset_of(rows, 0, [str(i // 2) for i in range(22)], drop_empty_text=True)
    assert sum(map(len, dataset.splits.values())) == 20
    assert all(str(text).strip() for split in dataset.splits.values() for text in split.columns["text"])
    assert dataset.decisions[1] == "Train: 2 rows without text left out: rows, row 4, rows, row 5."


def test_normalised():
    same = ["Caf\u00e9  au\tLait ", "cafe\u0301 AU\u00a0lait", "caf\u00e9 au lait"]
    assert {normalised(text) for text in same} == {"caf\u00e9 au lait"}
    assert text_keys([["a b"], ["c"]]) != text_keys([["a"], ["b c"]])
    assert text_keys([["a"]], 1) != text_keys([["a"]], 2)


def test_a_group_in_two_given_splits_is_refused(seed: int) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "author": f"author {n}"} for n in range(20)]
    other = [{"text": f"other {n}", "label": "ab"[n % 2], "author": f"author {n + 18}"} for n in range(10)]
    options = DataOptions(group_column="author")
    roles = (Role("text", "text"), Role("label", "label"))
    with pytest.raises(DataError, match=r"2 groups of 'author' occur in more than one split.*train and test"):
        assemble(read_tables({"train": rows, "test": other}, options), roles, options, seed)
    parts = [{**row, "split": "train"} for row in rows] + [{**row, "split": "test"} for row in other]
    options = DataOptions(group_column="author", split_column="split")
    with pytest.raises(DataError, match="2 groups of 'author'"):
        assemble(read_tables(parts, options), roles, options, seed)


def test_rows_are_bound_by_every_kind_of_group():
    keys = [bytes([row]) * 16 for row in range(6)]
    units = bind_rows(keys, ["a", "a", "b", "b", "c", "d"], [1, 2, 2, 3, 4, 4])
    assert sorted(sorted(units.members(first)) for first in units.firsts) == [[0, 1, 2, 3], [4, 5]]
