"""Exported networks answer as the trained ones, and are refused where they cannot."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.rows import classified_rows, write_csv
from tests.tasks.test_contract import SAMPLES
from tests.tiny import WORDS, tiny_base

import graftlm
import graftlm.workflows.export as exporting
from graftlm.cli.app import run as graft
from graftlm.data.dataset import Split
from graftlm.errors import ConfigurationError, GraftError, MissingResource, ModelError, RunError
from graftlm.models.exported import files
from graftlm.models.exported.exporting import difference
from graftlm.models.exported.network import ExportedNetwork, session_of
from graftlm.models.exported.quantising import quantise
from graftlm.predictor import Predictor
from graftlm.progress import Silent
from graftlm.reports.export_card import render_export_card
from graftlm.run import Run
from graftlm.scoring.paired import paired_difference
from graftlm.tasks._task import Learnt
from graftlm.tasks.text_regression import NumberPrediction, TextRegression
from graftlm.workflows.export import _require_same
from graftlm.workflows.parity import Answers, parity

_MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(
    bool(_MISSING), reason=f'not installed: {", ".join(_MISSING)} (pip install "graftlm[onnx]")'
)
OPTIONS: dict[str, Any] = {
    "training.epochs": 2, "training.learning_rate": 5e-3, "training.device": "cpu", "evaluation.proof": "none",
    "evaluation.resamples": 100, "task.max_length_tokens": 32,
}  # fmt: skip
FAMILIES = ("roberta", "distilbert", "gpt2", "llama")
READING = [name for name in SAMPLES if name not in ("text_generation", "dialogue")]


def trained(folder: Path, task: str, base: Path, rows: Any = None, **options: Any) -> Run:
    """A run whose rows lie in a file, as they must for an export without further rows."""
    rows = SAMPLES[task](40) if rows is None else rows
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return graftlm.finetune(
        data, base=str(base), run_directory=folder / "run", quiet=True,
        **{"task.name": task, **OPTIONS, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    # Trained until outputs are large: rounding those of a random network moves nothing.
    return trained(
        tmp_path_factory.mktemp("exported"), "text_classification", tiny_bert, classified_rows(80),
        **{"training.epochs": 8},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    """An export in both precisions; read only."""
    graftlm.export(run, run.path.parent / "export", int8=True, quiet=True)
    return run.path.parent / "export"


@pytest.fixture
def texts(seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS[:200], k=source.randint(1, 60))) for _ in range(40)]


def scores(predictor: Predictor, texts: list[str], batch_tokens: int = 4096) -> np.ndarray:
    return np.array([list(each.scores.values()) for each in predictor(texts, batch_tokens)])


def products_in_int8(folder: Path) -> int:
    import onnx

    nodes = onnx.load(folder / "onnx/model_quantized.onnx").graph.node
    return sum(node.op_type == "MatMulIntegerToFloat" for node in nodes)


@needs_onnx
@pytest.mark.parametrize("task", READING)
def test_every_task_that_reads_is_exported_with_its_numbers(
    task: str, tiny_bert: Path, tmp_path: Path
) -> None:
    options = {"task.stride_tokens": 4} if task == "question_answering" else {}
    run = trained(tmp_path, task, tiny_bert, **options)
    report = graftlm.export(run, tmp_path / "export", int8=True, quiet=True)
    found = report["networks"]["fp32"]["parity"]
    # Two layers of six products; the product of the head, of tokens or of a pooled one, stays in single precision.
    pooled = task in ("text_classification", "multi_label_classification", "text_regression")
    assert products_in_int8(tmp_path / "export") == 12 + pooled
    assert found["largest_difference"] <= 1e-5 * max(1.0, found["largest_output"])
    assert found["decided_alike"] in (1.0, None) and not found["significant_loss"]
    before, after = run.predictor("cpu"), Predictor.open(tmp_path / "export")
    rows = SAMPLES[task](12, seed=7)
    inputs = [{role.name: row[role.name] for role in before.roles if role.name in row} for row in rows]
    # Beyond the limit of 32 tokens: windows where the task has them, else a cut.
    long = dict(inputs[0])
    name = next(name for name in ("context", "tokens", "text") if name in long)
    long[name] = long[name] * 20 if name == "tokens" else " ".join([str(long[name])] * 20)
    for one, other in zip(before([*inputs, long]), after([*inputs, long]), strict=True):
        assert before.task.decision(one) == after.task.decision(other)
    assert list(after([])) == []


@needs_onnx
@pytest.mark.parametrize("kind", ["pairs", "lora", "roberta", "distilbert", "gpt2", "llama"])
def test_pairs_adapters_and_other_families(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    rows, options = classified_rows(40), {}
    base = tiny_base(tmp_path / "base", kind) if kind in FAMILIES else tiny_bert
    if kind == "pairs":
        rows = [{"text": row["text"], "text_pair": "by train", "label": row["label"]} for row in rows]
    if kind == "lora":
        options = {"strategy.name": "lora"}
    run = trained(tmp_path, "text_classification", base, rows, **options)
    report = graftlm.export(run, tmp_path / "export", int8=True, quiet=True)
    assert set(report["networks"]) == {"fp32", "int8"}
    products = {"gpt2": 2 * 4, "llama": 2 * 7}.get(
        kind, 2 * 6 + 1
    )  # of two layers, and a pooler or what is like one
    assert products_in_int8(tmp_path / "export") == products
    assert report["networks"]["int8"]["int8_share"] > 0.95
    before, after = run.predictor("cpu"), Predictor.open(tmp_path / "export")
    inputs = [(row["text"], row["text_pair"]) if kind == "pairs" else row["text"] for row in rows]
    np.testing.assert_allclose(scores(after, inputs), scores(before, inputs), atol=1e-5)
    assert not (tmp_path / "export" / "adapter_config.json").exists()
    assert json.loads((tmp_path / "export" / "config.json").read_text())["architectures"] == [
        type(before.model).__name__
    ]


@needs_onnx
def test_texts_are_answered_in_their_order_and_alone_as_among_others(
    run: Run, folder: Path, texts: list[str]
) -> None:
    exact = scores(run.predictor("cpu"), texts)
    assert len(np.unique(exact.round(3), axis=0)) > 20  # the order could not be told from equal rows
    for precision, apart in (("fp32", 1e-5), ("int8", 0.1)):
        predictor = Predictor.open(folder, precision=precision)
        together = scores(predictor, texts)
        np.testing.assert_allclose(together, exact, atol=apart)
        np.testing.assert_allclose(scores(predictor, texts[::-1])[::-1], together, atol=apart)
        alone = np.concatenate([scores(predictor, [text]) for text in texts])
        if precision == "fp32":
            np.testing.assert_allclose(alone, together, atol=1e-5)
        else:  # in the mean: rounding may take a number of a token over the edge of a step
            error = np.abs(together - exact).mean()
            assert error > 1e-5 and np.abs(alone - together).mean() < 0.05 * error


@needs_onnx
def test_one_scale_for_a_batch_would_be_noticed(folder: Path, texts: list[str], tmp_path: Path) -> None:
    """What `test_texts_are_answered_in_their_order_and_alone_as_among_others` asks is not met by any quantisation."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(folder / "onnx/model.onnx", tmp_path / "dynamic.onnx")
    predictor = Predictor.open(folder)
    exact = scores(predictor, texts)
    session = session_of((tmp_path / "dynamic.onnx").read_bytes())
    predictor = replace(predictor, model=ExportedNetwork(session, predictor.model.config))
    together = scores(predictor, texts)
    alone = np.concatenate([scores(predictor, [text]) for text in texts])
    assert np.abs(alone - together).mean() > 0.05 * np.abs(together - exact).mean()


@needs_onnx
def test_eight_threads_get_what_one_gets(folder: Path, texts: list[str]) -> None:
    predictor = Predictor.open(folder)
    parts = [texts[start : start + 5] for start in range(0, 40, 5)]
    expected = [scores(predictor, part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(pool.map(lambda part: scores(predictor, part), parts), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@needs_onnx
def test_the_folder_holds_what_the_hub_expects_and_a_card_that_runs(
    folder: Path, run: Run, tmp_path: Path
) -> None:
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {
        "README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "graftlm.json", "export.json",
        "recipe.yaml", "onnx/model.onnx", "onnx/model_quantized.onnx",
    } == names  # fmt: skip
    report = json.loads((folder / "export.json").read_text())
    assert report["compared_on"] == {
        "split": "validation",
        "fingerprint": run.record["data"]["fingerprints"]["validation"],
    }
    card = (folder / "README.md").read_text()
    assert "library_name: onnx" in card and "AutoModelForSequenceClassification" not in card
    assert "| int8 |" in card and "| fp32 |" in card and "% of its weights in int8." in card
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/folder", str(folder))
    said: dict[str, Any] = {}
    exec(compile(code.replace("print(", "found = ("), "card", "exec"), said)
    logits = said["found"]["logits"][0].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(scores(Predictor.open(folder), ["your text"])[0], probabilities, atol=1e-6)
    # What was read is not quantised where that is not worth it, and weights that went are gone.
    assert (folder / "onnx/model_quantized.onnx").stat().st_size < (folder / "onnx/model.onnx").stat().st_size


@needs_onnx
def test_evaluate_and_predict_open_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "rows.csv", classified_rows(20, seed=5))
    for words in ([], ["--int8"]):
        assert graft(["predict", str(folder), str(data), "--quiet", *words]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 20
        assert graft(["evaluate", str(folder), str(data), "--quiet", "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == 20


@needs_onnx
def test_the_command(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, data = tmp_path / "export", write_csv(tmp_path / "other.csv", classified_rows(12, seed=9))
    assert graft(["export", str(run.path), str(target), "--data", str(data), "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["networks"]["fp32"]["parity"]["rows"] == 12 and list(report["networks"]) == ["fp32"]
    assert graft(["export", str(run.path), str(target)]) == 2
    assert "this folder exists already" in capsys.readouterr().err
    assert graft(["export", str(target), str(tmp_path / "again")]) == 2
    assert "this folder is an export already" in capsys.readouterr().err
    assert graft(["export", str(run.path), str(tmp_path / "new"), "data.columns.text=x"]) == 2
    assert "name other rows with --data" in capsys.readouterr().err
    assert graft(["predict", str(target), str(data), "--int8"]) == 2
    assert "this export has no network in int8; it has fp32" in capsys.readouterr().err
    assert graft(["predict", str(run.path), str(data), "--int8"]) == 2
    assert "only an exported folder has a network in int8" in capsys.readouterr().err
    assert graft(["finetune", str(data), f"base={target}", "--run-dir", str(tmp_path / "run")]) == 2
    assert "exported for prediction" in capsys.readouterr().err


@needs_onnx
def test_nothing_is_written_where_the_network_says_something_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftlm.workflows.export.TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="says something else"):
        graftlm.export(run, tmp_path / "export", quiet=True)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_what_is_not_a_number_is_infinitely_different(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import TensorProto, helper

    def network(factor: float) -> bytes:
        constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
        row, other = (helper.make_tensor_value_info(name, kind, ["rows"]) for name, kind in
                      (("attention_mask", TensorProto.INT64), ("logits", TensorProto.FLOAT)))  # fmt: skip
        nodes = [
            helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["real", "factor"], ["logits"]),
        ]
        graph = helper.make_graph(nodes, "tiny", [row], [other], [constant])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    batch = {"attention_mask": np.ones(3, dtype=np.int64)}
    assert difference(network(1.0), network(1.5), batch) == 0.5
    assert difference(network(1.0), network(float("nan")), batch) == float("inf")
    forward = ExportedNetwork.forward

    def broken(self: ExportedNetwork, **inputs: Any) -> Any:
        said = forward(self, **inputs)
        said.logits[0] = float("nan")
        return said

    monkeypatch.setattr(ExportedNetwork, "forward", broken)
    with pytest.raises(GraftError, match="outputs are not finite for 1 of"):
        graftlm.export(run, tmp_path / "export", quiet=True)
    # A prediction refuses such outputs by itself; should it ever hand them on, the comparison refuses them.
    for apart in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match="says something else"):
            _require_same({"largest_difference": apart, "largest_output": 1.0})
    _require_same({"largest_difference": 1e-5, "largest_output": 1.0})
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_what_torch_cannot_export_is_said_without_colours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("\x1b[96mFailed\x1b[0m to export")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(
        ModelError, match="torch cannot export a bert network: RuntimeError: 'Failed to export'"
    ):
        graftlm.export(run, tmp_path / "export", quiet=True)


@needs_onnx
@pytest.mark.parametrize("transposed", [False, True])
def test_products_with_a_bias_inside_are_quantised_and_the_last_one_is_not(
    transposed: bool, seed: int, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random_weights = np.random.default_rng(seed)
    first, second = (random_weights.normal(size=size).astype(np.float32) for size in ((16, 24), (24, 2)))
    bias = random_weights.normal(size=24).astype(np.float32)
    constants = {"first": first.T.copy() if transposed else first, "second": second, "bias": bias}
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["hidden"], transB=int(transposed)),
        helper.make_node("MatMul", ["hidden", "second"], ["both"]),
        helper.make_node("Split", ["both"], ["one", "other"], axis=-1, num_outputs=2),
    ]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("one", "other")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "exact",
    )
    share = quantise(tmp_path / "exact", tmp_path / "small")
    assert share == pytest.approx(16 * 24 / (16 * 24 + 24 * 2))
    kinds = [node.op_type for node in onnx.load(tmp_path / "small").graph.node]
    assert kinds.count("MatMulIntegerToFloat") == kinds.count("MatMul") == 1 and "Gemm" not in kinds
    rows = random_weights.normal(size=(50, 16)).astype(np.float32)
    found = np.concatenate(session_of((tmp_path / "small").read_bytes()).run(None, {"x": rows}), axis=1)
    expected = (rows @ first + bias) @ second
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@needs_onnx
@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("# My model\n\nWords --- and\n---\nmore.\n\n", "more."),
        ("---\nlicense: mit\n---\n# My model\n\n", "license: mit"),
        ("---\n: [\n---\n# My model\n\n", ": ["),
        ("---\nnothing here ends\n\n", "nothing here ends"),
    ],
)
def test_a_card_that_its_user_edited_is_followed(
    folder: Path, run: Run, tmp_path: Path, head: str, said: str
) -> None:
    (tmp_path / "README.md").write_text(f"{head}## How to use it\n\nso\n\n## How it was made\n\nwell\n")
    card = render_export_card(tmp_path, folder, json.loads((folder / "export.json").read_text()))
    assert card.startswith("---\n") and "library_name: onnx\ntags:\n- onnx\n---\n" in card
    assert said in card and card.endswith("## How it was made\n\nwell\n") and "\nso\n" not in card


@needs_onnx
def test_of_given_rows_in_splits_those_of_test_are_never_taken(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, parts = classified_rows(30, seed=3), tmp_path / "parts"
    parts.mkdir()
    for name, first, last in (("train", 0, 5), ("validation", 5, 12), ("test", 12, 30)):
        write_csv(parts / f"{name}.csv", rows[first:last])
    report = graftlm.export(run, tmp_path / "one", parts, quiet=True)
    assert (report["compared_on"]["split"], report["networks"]["fp32"]["parity"]["rows"]) == ("validation", 7)
    called = [{**row, "split": ("train", "test")[at % 3 == 0]} for at, row in enumerate(rows)]
    assert (
        graftlm.export(run, tmp_path / "two", called, quiet=True)["networks"]["fp32"]["parity"]["rows"] == 20
    )
    (parts / "validation.csv").unlink()
    assert graftlm.export(run, tmp_path / "three", parts, quiet=True)["compared_on"]["split"] == "train"
    data = write_csv(tmp_path / "called.csv", [{**row, "split": "test"} for row in rows])
    words = ["--data", str(data), "data.split_column=split", "--quiet"]
    assert graft(["export", str(run.path), str(tmp_path / "four"), *words]) == 2
    assert "calls rows test, and none validation or train" in capsys.readouterr().err
    (parts / "test.csv").unlink()
    assert graft(["predict", str(run.path), str(parts), "--quiet"]) == 2
    refused = capsys.readouterr().err
    assert "has the splits train, and no test split" in refused and "--split" not in refused


def test_models_that_write_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "t5")
    options = {"data.validation_share": 0.0, "data.test_share": 0.0, "task.max_target_tokens": 4}
    run = trained(tmp_path, "text_generation", base, **options)
    with pytest.raises(
        ConfigurationError, match=r"text_generation writes token by token(.|\n)*graft predict"
    ):
        graftlm.export(run, tmp_path / "export", quiet=True)


def test_rows_that_are_not_there_are_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftlm.workflows.export.require_onnx", lambda *modules: None)
    moved = tmp_path / "moved"
    shutil.copytree(run.path, moved)
    recipe = (moved / "recipe.yaml").read_text()
    for path, said in (
        ("''", "were given in memory"),
        (str(tmp_path / "gone.jsonl"), "cannot be read again"),
    ):
        changed = [f"  path: {path}" if line.startswith("  path:") else line for line in recipe.splitlines()]
        (moved / "recipe.yaml").write_text("\n".join(changed))
        with pytest.raises(RunError, match=rf"{said}(.|\n)*--data FILE"):
            graftlm.export(moved, tmp_path / "export", quiet=True)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in classified_rows(44)))
    changed = [f"  path: {other}" if line.startswith("  path:") else line for line in recipe.splitlines()]
    (moved / "recipe.yaml").write_text("\n".join(changed))
    with pytest.raises(RunError, match="have changed since the training"):
        graftlm.export(moved, tmp_path / "export", quiet=True)
    shutil.copytree(run.path / "model", tmp_path / "alone")
    with pytest.raises(RunError, match="a model folder alone has no rows"):
        graftlm.export(tmp_path / "alone", tmp_path / "export", quiet=True)


def test_the_extra_is_named_where_it_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingResource, match=r'onnx and onnxscript and onnxruntime(.|\n)*"graftlm\[onnx\]"'):
        graftlm.export(run, tmp_path / "export", quiet=True)
    assert not (tmp_path / "export").exists()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no network": (lambda folder: (folder / "onnx/model.onnx").unlink(), "file not found"),
    "half a network": (
        lambda folder: (folder / "onnx/model.onnx").write_bytes(
            (folder / "onnx/model.onnx").read_bytes()[:500]
        ),
        "not the network that was exported",
    ),
    "no facts": (lambda folder: (folder / "graftlm.json").unlink(), "no graftlm.json"),
    "half a report": (
        lambda folder: (folder / "export.json").write_text('{"networks": '),
        "export.json is damaged",
    ),
    "no report": (lambda folder: (folder / "export.json").unlink(), "no model.safetensors"),
    "another version": (
        lambda folder: (folder / "export.json").write_text('{"format_version": 9, "networks": {}}'),
        "format version 9",
    ),
}


@needs_onnx
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    break_it, message = DAMAGES[damage]
    break_it(copy)
    with pytest.raises(GraftError, match=message) as caught:
        Predictor.open(copy)
    assert str(copy) in str(caught.value)


@needs_onnx
def test_no_network_names_further_files(folder: Path, tmp_path: Path) -> None:
    """A hostile network would have ONNX Runtime read a file of the user and give it away with its answers."""
    import onnx

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    model = onnx.load(copy / "onnx/model.onnx")
    table = next(each for each in model.graph.initializer if len(each.dims) == 2)
    (tmp_path / "secret").write_bytes(b"s" * len(table.raw_data))
    table.ClearField("raw_data")
    table.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", str(tmp_path / "secret")), ("offset", "0")):
        entry = table.external_data.add()
        entry.key, entry.value = key, value
    content = model.SerializeToString()
    (copy / "onnx/model.onnx").write_bytes(content)
    report = json.loads((copy / "export.json").read_text())
    report["networks"]["fp32"]["sha256"] = files.sha256_of(content)
    (copy / "export.json").write_text(json.dumps(report))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
        Predictor.open(copy)


@needs_onnx
def test_devices_and_precisions_that_an_export_has_not(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="works on the CPU, in fp32 or int8, got 'auto' and 'bf16'"):
        Predictor.open(folder, precision="bf16")
    with pytest.raises(GraftError, match="cuda"):  # here there is none, or the network is told not to want it
        Predictor.open(folder, "cuda")


def test_a_paired_difference_is_narrow_where_both_err_alike(seed: int) -> None:
    random_rows = np.random.default_rng(seed)
    right = random_rows.random(400) < 0.7
    worse = right & (np.arange(400) % 20 > 0)
    found = paired_difference(lambda rows: (right[rows].mean(), worse[rows].mean()), 400)
    assert found.value == pytest.approx(worse.mean() - right.mean())
    assert found.low < found.value < found.high < 0
    assert found.high - found.low < 0.06  # unpaired it would be twice that
    same = paired_difference(lambda rows: (right[rows].mean(), right[rows].mean()), 400)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_draws_on_which_a_metric_is_undefined_say_nothing(seed: int) -> None:
    random_rows = np.random.default_rng(seed)
    # One row of a hundred carries what is measured: a third of the draws have none of it, and no value.
    carries = np.arange(100) == random_rows.integers(100)

    def values_of(rows: np.ndarray) -> tuple[float, float]:
        return (1.0, 0.25) if carries[rows].any() else (float("nan"), 0.0)

    found = paired_difference(values_of, 100)
    assert (found.value, found.low, found.high) == (-0.75, -0.75, -0.75)
    nothing = paired_difference(lambda rows: (float("nan"), float("nan")), 100)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


def test_a_loss_is_seen_where_a_metric_is_undefined_on_many_draws() -> None:
    """All numbers but one are equal: a third of the draws have no correlation with anything."""
    numbers = np.zeros(60)
    numbers[7] = 1.0
    split = Split(
        "validation", {"text": ["a"] * 60, "number": numbers.tolist()}, [str(at) for at in range(60)]
    )
    predictor: Any = SimpleNamespace(task=TextRegression(), learnt=Learnt(()))

    def answers(given: np.ndarray, some: Split = split) -> Answers:
        predictions = [NumberPrediction(float(number)) for number in given]
        scores = predictor.task.score(predictions, some, predictor.learnt, resamples=10)
        return Answers([given[:, None]], predictions, scores)

    found = parity(predictor, split, answers(numbers), answers(-numbers))
    assert found["significant_loss"]
    assert [found["change"][key] for key in ("value", "low", "high")] == pytest.approx([-2.0] * 3)
    equal = replace(split, columns={**split.columns, "number": [0.0] * 60})
    scores = answers(numbers, equal).scores
    assert scores.headline.value == 0.0 and scores.primary in scores.undefined
    assert "undefined" not in scores.dump() and not answers(numbers).scores.undefined


def test_little_int8_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Listening(Silent):
        """Keeps warnings."""

        def warn(self, sentence: str) -> None:
            said.append(sentence)

    exporting.export(run.path, tmp_path / "much", int8=True, progress=Listening())
    assert not any("in int8" in each for each in said)
    monkeypatch.setattr(exporting, "LEAST_INT8_SHARE", 1.01)
    exporting.export(run.path, tmp_path / "little", int8=True, progress=Listening())
    assert any("of the weights are in int8" in each for each in said)
