from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.rows import classified_rows
from tests.tiny import WORDS

from graftlm.cli.predict import predict
from graftlm.data.options import DataOptions
from graftlm.errors import ConfigurationError, DataError, GraftError, ModelError, RunError
from graftlm.predictor import Predictor
from graftlm.progress import Silent
from graftlm.recipe import BATCH_TOKENS, load_recipe
from graftlm.run import Run
from graftlm.workflows.evaluate import evaluate
from graftlm.workflows.finetune import finetune


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    changes = {
        "base": str(tiny_bert), "training.epochs": 4, "training.learning_rate": 5e-3, "training.device": "cpu",
        "evaluation.proof": "none", "task.max_length_tokens": 32,
    }  # fmt: skip
    return finetune(
        load_recipe(None, changes), classified_rows(60), tmp_path_factory.mktemp("predictor") / "run"
    )


@pytest.fixture(scope="module")
def predictor(run: Run) -> Predictor:
    return run.predictor("cpu")


class Listener(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def test_what_makes_it_slow_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "graftlm.predictor.make_flat", lambda model, gradients: "it is of a family unheard of"
    )
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    expected = (
        "this model works on padded batches: it is of a family unheard of",
        "there are no compiled kernels (switched off by GRAFTLM_KERNELS): the same numbers, in more time",
    )
    assert run.predictor("cpu").notes == expected
    listener = Listener()
    evaluate(run.path, classified_rows(9, seed=3), DataOptions(), "cpu", progress=listener, resamples=100)
    assert listener.said[:2] == list(expected)
    (tmp_path / "lines.txt").write_text("good\n")
    for quiet in (False, True):
        with (tmp_path / "lines.txt").open() as lines:
            monkeypatch.setattr("sys.stdin", lines)
            predict(run.path, "-", "training.device=cpu", quiet=quiet)
        assert capfd.readouterr().err.splitlines()[:2] == ([] if quiet else list(expected))


@pytest.fixture
def texts(seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS[:200], k=source.randint(1, 40))) for _ in range(50)]


def scores(predictor: Predictor, texts: list[str], batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    return np.array([list(one.scores.values()) for one in predictor(texts, batch_tokens)])


def test_a_text_is_judged_alone_as_among_others(predictor: Predictor, texts: list[str]) -> None:
    together = scores(predictor, texts)
    alone = np.concatenate([scores(predictor, [text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    for size in (1, 100, 100_000):
        np.testing.assert_allclose(scores(predictor, texts, size), together, atol=1e-5)
    np.testing.assert_allclose(scores(predictor, texts[::-1]), together[::-1], atol=1e-5)
    assert len(np.unique(together.round(6), axis=0)) > 20  # the order could not be told from equal rows


def test_none_and_wrong_input(predictor: Predictor) -> None:
    assert list(predictor([])) == []
    with pytest.raises(
        DataError, match=r"a list of texts is wanted, got one text\n.*write predictor\(\[text\]\)"
    ):
        predictor("one text")
    for wrong, shown in ((None, "None"), (3, "3"), (b"x", "b'x'"), (" \n", r"' \\n'"), ("", "''")):
        with pytest.raises(DataError, match=rf"text 1 \(0-based\): a non-empty text is wanted, got {shown}"):
            predictor(["fine", wrong])  # type: ignore
    with pytest.raises(DataError, match=r"text 0 \(0-based\): half of a surrogate pair"):
        predictor(["cut \ud83d"])
    long_canary = "z" * 500
    with pytest.raises(DataError) as caught:
        predictor([[long_canary]])  # type: ignore
    assert long_canary[:61] not in str(caught.value)


def test_it_is_shown_in_a_line(predictor: Predictor) -> None:
    expected = "Predictor(text_classification, reads text, 4 labels, BertForSequenceClassification on cpu)"
    assert repr(predictor) == expected


def test_a_long_text_is_cut_at_the_limit_of_the_run(predictor: Predictor) -> None:
    words = ["train"] * 30 + ["lovely"] * 500
    long, short = " ".join(words), " ".join(words[:30])
    assert predictor.facts.max_length_tokens == 32
    np.testing.assert_allclose(scores(predictor, [long]), scores(predictor, [short]), atol=1e-5)


def test_odd_texts_have_an_answer(predictor: Predictor) -> None:
    odd = [
        "😀",
        "\x00\x01",
        "\u200b",
        "日本語のテキスト",
        "a\nb\tc",
        "[MASK] [SEP] [CLS]",
        "x" * 100_000,
        "\ufffd",
    ]
    answers = predictor(odd)
    assert len(answers) == len(odd)
    assert all(sum(answer.scores.values()) == pytest.approx(1) for answer in answers)


def test_eight_threads_get_what_one_gets(predictor: Predictor, texts: list[str]) -> None:
    parts = [texts[start : start + 10 + start % 7] for start in range(0, 40, 5)]
    expected = [scores(predictor, part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for one, other in zip(
                pool.map(lambda part: scores(predictor, part), parts), expected, strict=True
            ):
                np.testing.assert_array_equal(one, other)


def test_run_and_model_folder_give_the_same(run: Run, predictor: Predictor, texts: list[str]) -> None:
    for path in (run.path, str(run.directory.model)):
        np.testing.assert_array_equal(scores(Predictor.open(path, "cpu"), texts), scores(predictor, texts))


def test_the_recorded_predictions_are_repeated(run: Run, predictor: Predictor) -> None:
    rows = classified_rows(60)
    for split in ("validation", "test"):
        lines = [json.loads(line) for line in run.directory.predictions(split).read_text().splitlines()]
        numbers = [int(line["row"].rsplit(" ", 1)[1]) - 1 for line in lines]
        assert [rows[number]["label"] for number in numbers] == [line["reference"] for line in lines]
        recorded = np.array([list(line["scores"].values()) for line in lines])
        np.testing.assert_allclose(scores(predictor, [rows[n]["text"] for n in numbers]), recorded, atol=1e-6)


def facts(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / "graftlm.json").read_text())
        change(values)
        (folder / "graftlm.json").write_text(json.dumps(values))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no facts": (lambda folder: (folder / "graftlm.json").unlink(), "has no graftlm.json"),
    "half a file": (
        lambda folder: (folder / "graftlm.json").write_text('{"task": '),
        "graftlm.json is damaged",
    ),
    "another version": (
        facts(lambda values: values.update(format_version=99)),
        "format version 99; this GraftLM reads 1",
    ),
    "no labels": (facts(lambda values: values.pop("labels")), "graftlm.json is damaged"),
    "unknown entry": (facts(lambda values: values.update(colour="red")), "graftlm.json is damaged"),
    "unknown task": (
        facts(lambda values: values.update(task={"name": "divination"})),
        "no task is called 'divination'",
    ),
    "no task": (facts(lambda values: values.update(task={})), "names no usable task"),
    "wrong option": (facts(lambda values: values["task"].update(colour=1)), "names no usable task"),  # type: ignore
    "labels swapped": (facts(lambda values: values["labels"].reverse()), "name different labels"),  # type: ignore
    "a label lost": (facts(lambda values: values["labels"].pop()), "name different labels"),  # type: ignore
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "safetensors"),
    "half the weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:5000]
        ),
        "model",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(run: Run, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run.directory.model, folder)
    break_it, message = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(GraftError, match=message) as caught:
        Predictor.open(folder, "cpu")
    assert str(folder) in str(caught.value)


def test_a_device_or_precision_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigurationError, match="device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'gpu'"):
        Predictor.open("nowhere", device="gpu")
    with pytest.raises(ConfigurationError, match="precision: must be 'auto', 'fp32' or 'bf16', got 'fp16'"):
        Predictor.open("nowhere", "cpu", "fp16")


def test_what_is_no_finished_model_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a plain base model must be fine-tuned first"):
        Predictor.open(tiny_bert)
    with pytest.raises(RunError, match="there is no run or model folder"):
        Predictor.open(tmp_path / "nothing")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="this run has no model yet") as caught:
        Predictor.open(tmp_path)
    assert f"graft finetune --resume {tmp_path}" in caught.value.fix
