from __future__ import annotations

import pytest

from graftlm.checking.findings import Finding, check_dataset
from graftlm.data.dataset import Dataset, Split
from graftlm.data.roles import LABEL_SET, NUMBER, TEXT, TEXT_PAIR


def found(role, **splits) -> dict[str, Finding]:
    made = {
        name: Split(
            name,
            {"text": [f"{name} {line}" for line in range(len(values))], role.name: values},
            [f"{name}.csv:{line}" for line in range(2, len(values) + 2)],
        )
        for name, values in splits.items()
    }
    return {item.kind: item for item in check_dataset(Dataset(made, ""), (TEXT, TEXT_PAIR, role))}


def test_a_set_with_an_unseen_label_is_an_error_with_its_place() -> None:
    findings = found(LABEL_SET, train=[("a",), ("a", "b"), ()], test=[("b",), ("a", "c")])
    assert findings["unseen_label"].severity == "error"
    assert findings["unseen_label"].places == ["test.csv:3"]
    assert "'c' (1)" in findings["unseen_label"].message


def test_labels_of_sets_are_counted_one_by_one() -> None:
    findings = found(LABEL_SET, train=[("a",), ("a", "b"), ("b",), ()])
    assert "'a' 2, 'b' 2" in findings["label_counts"].message


def test_a_label_on_every_row_is_a_warning() -> None:
    always = found(LABEL_SET, train=[("a", "b"), ("b",)])["label_on_every_row"]
    assert (always.severity, always.count) == ("warning", 1)
    assert always.message.endswith("nothing to tell: 'b'")
    assert "label_on_every_row" not in found(LABEL_SET, train=[("a", "b"), ("b",), ()])


def test_no_label_at_all_is_an_error() -> None:
    assert found(LABEL_SET, train=[(), ()])["no_label"].severity == "error"


def test_one_number_for_every_row_is_an_error() -> None:
    constant = found(NUMBER, train=[2.5, 2.5], test=[1.0])["constant_number"]
    assert (constant.severity, constant.places) == ("error", ["train.csv:2"])
    assert "constant_number" not in found(NUMBER, train=[2.5, 3.5])


@pytest.mark.parametrize("numbers", [[1e-101, 2e-101], [5e-324, 0.0]])
def test_numbers_whose_squares_underflow_are_an_error(numbers: list[float]) -> None:
    even = found(NUMBER, train=numbers)["number_too_even"]
    assert even.severity == "error" and "smaller unit" in even.fix
    assert "number_too_even" not in found(NUMBER, train=[1e-99, 3e-99])


def test_a_number_out_of_reach_of_those_of_train_is_an_error_with_its_place() -> None:
    far = found(NUMBER, train=[1.0, 3.0], test=[2.0, 3e15])["number_out_of_reach"]
    assert (far.severity, far.count, far.places) == ("error", 1, ["test.csv:3"])
    assert "number_out_of_reach" not in found(NUMBER, train=[1.0, 3.0], test=[2.0, 1e14])


def test_the_same_text_with_two_numbers_conflicts() -> None:
    split = Split("train", {"text": ["same", "same"], "number": [1.0, 2.0]}, ["a.csv:2", "a.csv:3"])
    kinds = {item.kind for item in check_dataset(Dataset({"train": split}, ""), (TEXT, NUMBER))}
    assert "conflicting_labels" in kinds
