"""The page of the benchmarks says what the result files say, and the interval is the one it is said to be."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import tiny_base

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def benchmark(name: str):
    """Import a benchmark: scripts beside each other, not a package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def block(name: str) -> str:
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    return page.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0].rstrip("\n")


@pytest.mark.parametrize("name", [file.stem for file in sorted((BENCHMARKS / "results").glob("*.json"))])
def test_page_shows_the_result_file(name: str):
    document = json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert block(name) == benchmark(name).tables(document)


def test_page_shows_the_runs_behind_the_defaults():
    records = benchmark("records").Records(BENCHMARKS / "results" / "defaults.jsonl")
    assert block("defaults") == benchmark("defaults").table(records)


def test_questions_about_one_context_are_drawn_together() -> None:
    """Ten contexts of ten questions, all right or all wrong: they are ten, not a hundred."""
    against_stock = benchmark("against_stock")
    rows = [{"context": f"b {at // 10}", "answers": [{"text": "b"}]} for at in range(100)]

    def run(side: str, right: Any) -> dict[str, Any]:
        found = [
            {"start": 0 if right(at) else 2, "end": 1 if right(at) else 3, "answers": []} for at in range(100)
        ]
        return {
            "data": "squadshifts",
            "side": side,
            "seed": 1,
            "rows": against_stock.outcome(found, rows).dump(),
        }

    runs = [run("ours", lambda at: at // 10 < 5), run("stock_paired", lambda at: at // 10 >= 5)]
    together = against_stock.compare(runs, "squadshifts", "stock_paired")
    for each in runs:
        del each["rows"]["together"]
    alone = against_stock.compare(runs, "squadshifts", "stock_paired")
    widths = [found["interval_points"][1] - found["interval_points"][0] for found in (together, alone)]
    assert together["rows"] == 100 and together["difference_points"] == alone["difference_points"] == 0.0
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize("name", ["against_stock", "real_data", "defaults", "generation", "prediction_speed"])
def test_a_table_of_runs_elsewhere_is_only_printed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [name, "--table", "--output", str(tmp_path / "none")])
    benchmark(name).main()
    assert capsys.readouterr().out.splitlines()[0] == block(name).splitlines()[0]
    assert (BENCHMARKS / "README.md").read_text(encoding="utf-8") == page


def rated(side: str, seed: int, **rows: str) -> dict[str, object]:
    return {"data": "trec", "side": side, "seed": seed, "rows": rows}


def test_difference_is_paired_by_row_and_averaged_over_common_seeds():
    def run(side: str, seed: int, correct: str) -> dict[str, object]:
        hits, ones = " ".join(correct), " ".join("1" * len(correct))
        return rated(side, seed, metric="accuracy", hits=hits, wanted=ones, given=ones, decided=hits)

    ours, stock = "1" * 90 + "0" * 10, "1" * 89 + "0" * 10 + "1"
    runs = [run("ours", 1, ours), run("ours", 2, ours), run("ours", 3, "0" * 100)]
    runs += [run("stock_paired", 1, stock), run("stock_paired", 2, stock)]
    found = benchmark("against_stock").compare(runs, "trec", "stock_paired")
    assert found["seeds"] == [1, 2]  # seed 3 has no other side
    assert found["ours"] == found["theirs"] == [90.0, 90.0]
    assert found["difference_points"] == 0.0
    # +1 on one row, -1 on another, 0 on 98: standard error sqrt(2) points, far below that of unpaired sides (4.2).
    low, high = found["interval_points"]
    assert -3.5 < low < -1.5 and 1.5 < high < 3.5
    assert not found["within_bound"]
    assert found["rows_decided_differently"] == [2, 2]
    assert benchmark("against_stock").compare(runs, "sst2", "stock_paired") is None


def test_correlation_of_drawn_rows_is_that_of_numpy():
    random = np.random.default_rng(seed := int(np.random.default_rng().integers(2**32)))
    print("seed", seed)
    wanted, given = random.normal(size=(2, 50))
    columns = {"wanted": wanted, "given": given + wanted, "hits": np.zeros(50), "decided": given}
    rows = {name: " ".join(map(repr, column.tolist())) for name, column in columns.items()}
    side = benchmark("against_stock").Rated({"rows": {"metric": "pearson", **rows}})
    drawn = random.integers(50, size=50)
    (score,) = side.score(np.bincount(drawn, minlength=50).astype(float)[None])
    assert score == pytest.approx(100 * np.corrcoef(wanted[drawn], (given + wanted)[drawn])[0, 1], abs=1e-9)


@pytest.mark.parametrize(
    ("records", "rows", "score"),
    [
        ([{"label": "a", "reference": "a"}, {"label": "b", "reference": "a"}], [{}, {}], 50.0),
        (
            [
                {"scores": {"a": 0.7, "b": 0.5, "c": 0.1}, "reference": ["a"]},
                {"scores": {"a": 0.2, "b": 0.0, "c": 0.4}, "reference": ["c"]},
            ],
            [{}, {}],
            50.0,
        ),
        ([{"tags": ["B-X", "I-X", "B-Y"], "reference": ["B-X", "I-X", "O"]}], [{}], 200 / 3),
        (
            [{"start": 4, "end": 12, "reference": [[4, 9]]}],
            [{"context": "the grass is green", "answers": [{"text": "grass", "answer_start": 4}]}],
            200 / 3,
        ),
        (
            [
                {"text": "a b", "log_probability": -2.0, "tokens": 4},
                {"text": "", "log_probability": -1.0, "tokens": 2},
            ],
            [{}, {}],
            -50.0,
        ),
        ([{"number": number, "reference": 2 * number} for number in (1.0, 2.0, 4.0)], [{}] * 3, 100.0),
    ],
)
def test_every_kind_of_answer_has_its_score(records: list[dict], rows: list[dict], score: float):
    against_stock = benchmark("against_stock")
    side = against_stock.Rated({"rows": against_stock.outcome(records, rows).dump()})
    assert float(side.score(np.ones(len(rows)))) == pytest.approx(score, abs=1e-3)
    assert len(side.decided) == len(rows)


@pytest.mark.parametrize("family", ["bart", "llama"])
def test_both_sides_train_and_read_a_model_that_writes_alike(family: str, tmp_path: Path):
    against_stock = benchmark("against_stock")
    rows = [
        {"source": f"the {word} book", "target": f"a {word} film !"} for word in ("red", "blue", "new", "old")
    ]
    if family == "llama":
        turns = [("user", "source"), ("assistant", "target")]
        rows = [{"messages": [{"role": role, "content": row[key]} for role, key in turns]} for row in rows]
    setting = against_stock.Setting(12, 1e-2, longest=60, written=8)
    options = against_stock.options(setting, 1, str(tiny_base(tmp_path / "base", family)))
    # Not inferred: four targets look like labels.
    options["task.name"] = "text_generation" if family == "bart" else "dialogue"
    splits = {"train": rows * 10, "test": rows}
    ours, stock = (against_stock.TRAIN[side](splits, options) for side in ("ours", "stock_paired"))
    assert [each["text"] for each in ours] == [each["text"] for each in stock]
    tokens = [each["tokens"] for each in ours]
    assert tokens == [each["tokens"] for each in stock] and min(tokens) >= 5  # the words and the end
    given, wanted = ([each["log_probability"] for each in side] for side in (ours, stock))
    assert given == pytest.approx(wanted, rel=1e-3)
    assert max(given) > -5  # it learnt: before, a token has a probability of one of 400


def test_predictions_agree_but_for_rounding():
    same = benchmark("prediction_speed").same
    one = {"label": "a", "scores": {"a": 0.5, "b": 0.5}, "places": [(0, 3)]}
    assert same(one, {"label": "a", "scores": {"a": 0.50001, "b": 0.49999}, "places": [[0, 3]]})
    for other in (
        {**one, "label": "b"},
        {**one, "scores": {"a": 0.51, "b": 0.49}},
        {**one, "scores": {"a": 0.5}},
        {**one, "places": [(0, 4)]},
        {**one, "places": []},
        {"label": "a"},
    ):
        assert not same(one, other) and not same(other, one)


def test_flags_survive_packing():
    seed = int(np.random.default_rng().integers(2**32))
    print("seed", seed)
    random = np.random.default_rng(seed)
    flags = random.random(int(random.integers(1, 40))) < 0.5
    records = benchmark("records")
    assert (records.unpack(records.pack(flags), len(flags)) == flags).all()
