"""The sides of the benchmark of pretraining read the same tokens, and their losses are compared, on a tiny scale."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.benchmarks.test_figures import benchmark
from tests.tiny import WORDS

SMALL = {"training.max_length_tokens": 24, "training.batch_tokens": 240}


def small(base: str) -> dict[str, Any]:
    return {**SMALL, "tokenizer.vocabulary_size": 250 if base == "bert-tiny" else 400}


class Enough(Exception):
    """The turns are over."""


class Noted:
    """What a side tells of its steps, until there are enough."""

    last = True

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def wait(self) -> None:
        assert not self.told

    def step_ended(self, tokens: int, places: int) -> None:
        self.told.append((tokens, places))
        if len(self.told) == 4:
            raise Enough


@pytest.fixture(params=["bert-tiny", "gpt2-mini"])
def base(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(seed: int, tmp_path: Path) -> Path:
    """Documents shorter and longer than a window."""
    draw = random.Random(seed)
    documents = (" ".join(draw.choices(WORDS[:80], k=draw.choice((3, 9, 15, 60)))) for _ in range(60))
    benchmark("pretraining_speed").write_corpus(documents, tmp_path)
    return tmp_path


def test_losses_are_equal_on_our_batches(base: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = benchmark("pretraining_speed")
    assert speed.check_equal(base, folder, **small(base)) <= 1e-6

    def swapped(subject: Any, steps: int, real: Any = speed.our_batches) -> Any:
        return [{**each, "input_ids": each["input_ids"].roll(1, 0)} for each in real(subject, steps)]

    monkeypatch.setattr(speed, "our_batches", swapped)
    with pytest.raises(SystemExit, match="losses differ"):
        speed.check_equal(base, folder, **small(base))


@pytest.mark.parametrize("side", ["ours", "stock", "stock_blocks"])
def test_every_side_takes_steps_of_as_many_tokens(base: str, side: str, folder: Path) -> None:
    speed, turns = benchmark("pretraining_speed"), Noted()
    subject = speed.make_subject(base, folder, 0.1, **small(base))
    rows = speed.read_rows(subject)
    lengths = [len(row) for row in rows]
    assert sorted(lengths) == sorted(subject.examples.lengths.tolist()) and max(lengths) == 24
    mask = subject.beginning.tokenizer.mask_token_id
    assert mask is None or not any(mask in row for row in rows)
    with pytest.raises(Enough):
        speed.work(side, subject, turns)
    tokens, places = np.array(turns.told).T
    # Rows are drawn: four steps of the stock side are off by a fifth now and then.
    assert 120 < tokens.mean() <= (240 if side == "ours" else 340)
    assert (tokens < places).all() if side == "stock" else (tokens == places).all()


def test_blocks_are_full_and_lose_only_the_end() -> None:
    blocks = benchmark("pretraining_speed").blocks([[1, 2, 3], [4], [5, 6, 7, 8]], 3)
    assert blocks == [[1, 2, 3], [4, 5, 6]]


def test_ratio_is_of_seconds_for_a_token() -> None:
    speed = benchmark("pretraining_speed")
    run = {
        "network": "bert-mini", "texts": "sentences", "lengths": [4.0, 8.0, 20.0],
        "seconds": {"ours": [[1.0, 1.0], [2.0, 2.0]], "stock": [[2.0, 2.0], [3.0, 3.0]]},
        "tokens": {"ours": [[100, 100], [100, 100]], "stock": [[50, 50], [100, 100]]},
        "places": {"ours": [[100, 100], [100, 100]], "stock": [[100, 100], [200, 200]]},
        "peak_mib": {"ours": 900, "stock": 1800},
    }  # fmt: skip
    ours, stock = speed.tables({"runs": [run]}).splitlines()[2:]
    assert "| 67 | 0% | 900 |" in ours
    # Turn by turn 2 / 50 : 1 / 100 and 3 / 100 : 2 / 100 seconds a token.
    assert "| 50% | 1,800 | 2.75 [1.50, 4.00] |" in stock and stock.endswith("| 1.8 |")
