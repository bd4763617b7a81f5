"""What benchmarks compute beside training: choices, tables and counts, on tiny inputs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.benchmarks.test_figures import benchmark

from graftlm.models.locating import locate
from graftlm.training.batching import Examples

INTERVAL = {"value": 2.0, "low": 1.5, "high": 2.5}


def test_domain_keeps_rows_with_one_label_and_shows_both_texts() -> None:
    domain = benchmark("domain")
    rows = [
        {"text": "a", "labels": ["joy"]},
        {"text": "b", "labels": ["joy", "fear"]},
        {"text": "c", "labels": []},
    ]
    assert domain.with_one_label(rows) == [{"text": "a", "label": "joy"}]
    change = {"value": -0.25, "low": -0.5, "high": -0.125}
    told = {
        "before": {"loss": INTERVAL},
        "after": {"loss": {"value": 1.75}},
        "change": {"loss": change},
        "documents": 1_234,
    }
    compared = {
        "data": "goemotions_1000", "rows": 500, "seeds": [1], "ours": [50.5], "theirs": [49.0],
        "difference_points": 1.5, "interval_points": [-0.5, 3.5],
    }  # fmt: skip
    texts = {"held_out": told, "general_text": told}
    shown = domain.tables({"runs": [{"seed": 1, "texts": texts}], "comparisons": [compared]}).splitlines()
    assert shown[2].endswith("| 1,234 | 1 | 2.000 | 1.750 | -0.250 | [-0.500, -0.125] |")
    assert "WikiText" in shown[3]
    assert shown[-1] == "| 1,000 | 500 | 1 | 50.5 | 49.0 | +1.50 | [-0.50, +3.50] |"


def test_optimizers_choose_a_rate_by_the_seed_that_is_not_shown() -> None:
    optimizers = benchmark("optimizers")

    def run(rate: float, seed: int, *losses: float) -> dict[str, Any]:
        return {
            "way": "muon", "rate": rate, "seed": seed, "losses": list(losses), "steps": [10, 20],
            "step_seconds": 0.5 * seed,
        }  # fmt: skip

    slow, fast = optimizers.RATES
    runs = [run(slow, 0, 5.0, 3.0)]
    assert optimizers.best_rate(runs, "muon") is None and optimizers.tables({"runs": runs}) == ""
    runs += [run(fast, 0, 4.0, 3.5), run(slow, 2, 5.5, 2.5), run(slow, 1, 5.25, 2.25), run(fast, 1, 1.0, 1.0)]
    assert optimizers.best_rate(runs, "muon") == slow
    shown = optimizers.tables({"runs": runs}).splitlines()
    assert shown[0] == f"| step | muon at {slow:g}, seeds 1, 2 |"
    assert shown[2:] == ["| 10 | 5.250, 5.500 |", "| 20 | 2.250, 2.500 |", "| a step takes | 0.75 s |"]


def test_inference_in_sorted_batches_answers_in_the_order_of_the_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speed = benchmark("inference_speed")
    monkeypatch.setattr(speed, "BATCH", 2)

    class Tokenizer:
        """One token for each letter."""

        def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

        def pad(self, batch: dict[str, list[list[int]]], **_: Any) -> list[list[int]]:
            return batch["input_ids"]

    lengths: list[list[int]] = []

    def logits_of(batch: list[list[int]]) -> Any:
        lengths.append([len(ids) for ids in batch])
        return np.array([[float(len(ids)), 0.0] for ids in batch], dtype=np.float32)

    plain = SimpleNamespace(
        tokenizer=Tokenizer(), facts=SimpleNamespace(max_length_tokens=9),
        model=SimpleNamespace(config=SimpleNamespace(num_labels=2)),
    )  # fmt: skip
    found = speed.in_batches(plain, ["a", "bbbb", "cc", "ddd", "e"], logits_of)
    assert lengths == [[4, 3], [2, 1], [1]]
    assert found[:, 0] == pytest.approx([1 / (1 + np.exp(-length)) for length in (1, 4, 2, 3, 1)])


def test_inference_shows_the_best_batch_of_the_pipeline() -> None:
    seconds = {
        "ours": [1.0, 2.0, 1.0], "sorted": [2.0, 2.0, 2.0], "pipeline 1": [9.0] * 3, "pipeline 8": [3.0, 3.0, 6.0],
        "onnx": [1.0] * 3, "ours int8": [0.8] * 3, "onnx int8": [0.5] * 3,
    }  # fmt: skip
    run = {
        "data": "short", "rows": 800, "seconds": seconds, "apart": dict.fromkeys(seconds, 1e-6),
        "decides_otherwise": {"ours int8": 0, "onnx int8": 7}, "accuracy": dict.fromkeys(seconds, 0.875),
    }  # fmt: skip
    shown = benchmark("inference_speed").tables({"runs": [run]}).splitlines()
    assert shown[2] == "| short | 800 | ours | 800 |  |  | 87.5 | 1e-06 |"
    assert shown[3] == "| short | 800 | sorted | 400 | 2.00 [1.00, 2.00] | 1.2 | 87.5 | 1e-06 |"
    assert shown[4].startswith("| short | 800 | pipeline 8 | 267 | 3.00 [1.50, 6.00] |")
    assert (
        shown[6]
        == "| short | 800 | ours int8 | 1,000 | 0.80 [0.40, 0.80] |  | 87.5 | 1e-06, 0 rows decided otherwise |"
    )
    assert shown[7].endswith("87.5 | 1e-06, 7 rows decided otherwise |")


@pytest.mark.parametrize("earlier", [False, True])
def test_transfer_marks_rows_of_another_encoder(earlier: bool) -> None:
    transfer = benchmark("transfer")
    base = "another" if earlier else locate("bundled:english-encoder").fingerprint
    document = json.loads(transfer.RESULTS.read_text(encoding="utf-8"))
    for run in document["runs"]:
        run["key"] = json.dumps({**json.loads(run["key"]), "base": base})
    (row,) = [line for line in transfer.tables(document).splitlines() if line.startswith("| sst2")]
    assert ("(an earlier encoder)" in row) == earlier


def test_transfer_draws_rows_by_the_seed_and_weights_anew(tiny_bert: Path, tmp_path: Path) -> None:
    transfer = benchmark("transfer")
    rows = [{"text": str(number)} for number in range(500)]
    assert transfer.chosen(rows, transfer.Setting("trec", 1, 3), 1) == rows[:3]
    assert transfer.chosen(rows, transfer.Setting("trec", 1), 1) == rows
    drawn = [transfer.chosen(rows, transfer.Setting("trec", 1, 50, first=False), seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len({row["text"] for row in drawn[2]}) == 50
    names = ("base", "one", "again", "other")
    folders = [tiny_bert, *(transfer.fresh_weights(str(tiny_bert), tmp_path / name, seed) for name, seed in
                            (("one", 1), ("again", 1), ("other", 2)))]  # fmt: skip
    weights = {
        name: load_file(folder / "model.safetensors") for name, folder in zip(names, folders, strict=True)
    }
    (name, *_) = [name for name in weights["one"] if name.endswith("layer.0.attention.self.query.weight")]
    assert torch.equal(weights["one"][name], weights["again"][name])
    assert not torch.equal(weights["one"][name], weights["other"][name])
    bare = weights["base"].get(name, weights["base"].get(name.partition(".")[2]))
    assert (
        bare is not None
        and bare.shape == weights["one"][name].shape
        and not torch.equal(bare, weights["one"][name])
    )


def test_bundled_weights_are_halved_where_they_have_a_point() -> None:
    half = benchmark("bundle_base")._half
    assert half(torch.tensor([1.0 + 2**-12])).equal(torch.tensor([1.0], dtype=torch.float16))
    assert half(torch.tensor([2**40])).equal(torch.tensor([2**40]))


def test_products_are_counted_and_computed_again() -> None:
    ceiling = benchmark("ceiling")
    weight = torch.randn(7, 5, requires_grad=True)
    with ceiling.Products() as found:
        torch.nn.functional.linear(torch.randn(3, 5), weight, torch.randn(7)).square().sum().backward()
        torch.randn(4, 4).exp()
    # Forward 3x5 by 5x7, back 7x3 by 3x5 for the weight; the input wants no gradient.
    assert found.operations == 2 * 3 * 5 * 7 + 2 * 7 * 3 * 5 and len(found.again) == 2
    assert all(again() >= 0.0 for again in found.again)
    run = {
        "network": "minilm-l6", "mix": "short", "machine": {"threads": 2}, "step_seconds": [0.1, 0.2, 0.2],
        "product_seconds": [0.05, 0.15, 0.1], "operations": [1e9, 1e9, 1e9],
    }  # fmt: skip
    assert (
        ceiling.tables({"runs": [run]}).splitlines()[2] == "| minilm-l6 | short | 2 | 200 | 100 | 50% | 10 |"
    )


@pytest.mark.parametrize(
    ("targets", "answers", "expected"),
    [
        (np.array([2, 0]), False, [{"labels": 2}, {"labels": 0}]),
        (np.array([[1.0, 0.0], [0.0, 1.0]]), False, [{"labels": [1.0, 0.0]}, {"labels": [0.0, 1.0]}]),
        ([np.array([-100, 1]), np.array([0])], False, [{"labels": [-100, 1]}, {"labels": [0]}]),
        (
            np.array([[0, 1], [0, 0]]),
            True,
            [{"start_positions": 0, "end_positions": 1}, {"start_positions": 0, "end_positions": 0}],
        ),
    ],
    ids=["class", "set", "tags", "answer"],
)
def test_the_stock_trainer_is_given_the_same_rows(targets: Any, answers: bool, expected: Any) -> None:
    inputs = {"input_ids": [[7, 8], [9]], "token_type_ids": [[0, 1], [0]]}
    examples = Examples(inputs, targets, {"input_ids": 0, "token_type_ids": 0})
    assert benchmark("training_speed").stock_rows(examples, answers) == [
        {**{name: each[row] for name, each in inputs.items()}, **expected[row]} for row in range(2)
    ]


def test_sides_take_turns_in_drawn_order_and_the_first_turn_does_not_count() -> None:
    taken: list[str] = []

    class Worker:
        """Counts its turns."""

        def __init__(self, name: str) -> None:
            self.name, self.turns, self.ended = name, 0, False

        def turn(self, steps: int) -> dict[str, int]:
            taken.append(self.name)
            self.turns += 1
            return {"turn": self.turns, "steps": steps}

        def end(self) -> None:
            self.ended = True

    workers = {name: Worker(name) for name in "abcd"}
    told = benchmark("turns").take_turns(workers, 5, 3)
    assert told == {name: [{"turn": turn, "steps": 3} for turn in range(2, 7)] for name in "abcd"}
    orders = [tuple(taken[start : start + 4]) for start in range(0, len(taken), 4)]
    assert len(orders) == 6 and all(sorted(order) == list("abcd") for order in orders)
    assert len({order[0] for order in orders}) > 1
    assert all(worker.ended for worker in workers.values())
