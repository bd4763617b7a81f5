"""What the doors ask of models that write: no more than is read, and refusals before anything is computed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tasks.test_contract import conversation_rows, written_rows
from tests.tiny import tiny_base, tiny_config
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import graftlm
from graftlm import conclusion
from graftlm.cli.app import run as graft
from graftlm.data.dataset import Split
from graftlm.data.messages import conversation
from graftlm.errors import DataError
from graftlm.predictor import Predictor
from graftlm.run import Run
from graftlm.training import evaluation, writing


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A model that replies and one that translates, hardly trained."""
    folder = tmp_path_factory.mktemp("writing")
    options = {
        "training.epochs": 1, "training.device": "cpu", "data.validation_share": 0.0, "data.test_share": 0.0,
        "task.max_target_tokens": 6, "evaluation.resamples": 100,
    }  # fmt: skip
    rows = {"dialogue": conversation_rows(8), "text_generation": written_rows(8)}
    families = {"dialogue": "llama", "text_generation": "bart"}
    return {
        task: graftlm.finetune(
            given, base=str(tiny_base(folder / families[task], families[task])), run_directory=folder / task,
            quiet=True, **{"task.name": task, **options},
        )
        for task, given in rows.items()
    }  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def unanswered(rows: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    return [{"messages": row["messages"][:-1]} if number == at else row for number, row in enumerate(rows)]


def test_a_row_that_cannot_be_scored_is_refused_before_anything_is_written(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(*arguments: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(evaluation, "write", nothing)
    file = write_rows(tmp_path / "talks.jsonl", unanswered(conversation_rows(4, seed=5), 2))
    with pytest.raises(
        DataError, match="1 of 4 conversations do not end with a message of the assistant"
    ) as caught:
        graftlm.evaluate(runs["dialogue"].path, file)
    assert caught.value.where == f"{file}:3"
    assert graft(["evaluate", str(runs["dialogue"].path), str(file), "--quiet"]) == 2
    assert f"{file}:3" in capsys.readouterr().err
    rows = written_rows(4, seed=5)
    file = write_rows(tmp_path / "texts.jsonl", [*rows[:2], {**rows[2], "target": ""}, rows[3]])
    with pytest.raises(DataError, match=r"texts\.jsonl:3"):
        graftlm.evaluate(runs["text_generation"].path, file)
    for row in rows:
        del row["target"]
    with pytest.raises(DataError, match="target"):
        graftlm.evaluate(runs["text_generation"].path, write_rows(tmp_path / "sources.jsonl", rows))


def test_prediction_does_not_score_what_nobody_reads(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of earlier replies, and of targets that stand in the file, nobody asks how probable they are."""
    scored: list[int] = []
    score = writing._log_probabilities
    monkeypatch.setattr(
        writing, "_log_probabilities", lambda *given: scored.append(len(given[1])) or score(*given)
    )
    talks, texts = conversation_rows(6, seed=5), written_rows(6, seed=5)
    for name, rows in (("dialogue", talks), ("text_generation", texts)):
        file = write_rows(tmp_path / f"{name}.jsonl", rows)
        scored.clear()
        assert graft(["predict", str(runs[name].path), str(file), "--quiet"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 6
        assert sum(scored) == 6  # what was written, and nothing else
        scored.clear()
        graftlm.evaluate(runs[name].path, file)
        assert sum(scored) == 12
    scored.clear()
    runs["dialogue"].predictor("cpu")([row["messages"] for row in talks])
    assert sum(scored) == 6


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--output", "new.jsonl"], "--output"),
        (["--quiet"], "--quiet"),
        (["--quiet", "--output", "new.jsonl"], "--output, --quiet"),
        (["evaluation.batch_tokens=4"], "evaluation.batch_tokens"),
        (["data.columns.messages=turns"], "data.columns.messages"),
        (["talks.jsonl"], "--chat"),
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_a_conversation_refuses_what_it_would_ignore(
    words: list[str], named: str, typed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    stream = io.TextIOWrapper(io.BytesIO(b"hello\n"))
    monkeypatch.setattr(stream, "isatty", lambda: typed, raising=False)
    monkeypatch.setattr("sys.stdin", stream)
    # Before the model is opened: the folder holds none.
    (tmp_path / "empty").mkdir()
    assert graft(["predict", "empty", *words, "--chat"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"graft: {named}: ") and said.out == ""
    if typed and named != "--chat":  # a terminal is asked without the flag as well
        assert graft(["predict", "empty", *words]) == 2
        assert capsys.readouterr().err.startswith(f"graft: {named}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_conversation_may_name_its_device(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\n")))
    assert graft(["predict", str(runs["dialogue"].path), "training.device=cpu", "--chat"]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\n")))
    assert graft(["predict", str(runs["text_generation"].path), "--chat"]) == 2
    assert "only a model of dialogue can talk" in capsys.readouterr().err


def test_a_text_that_goes_on_otherwise_from_a_tie_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a device where rounding depends on the batch."""

    def afresh(folder: Path, split: Split, batch_tokens: int, device: str, precision: str) -> Any:
        predictor = Predictor.open(folder, device, precision)
        found = list(predictor.outputs(split, predictor.encode(split), batch_tokens))
        other = found[0][:1] + np.float32([1, 0, 0])
        found[0] = np.concatenate([other, found[0][found[0][:, 2] == 1]])
        return found

    monkeypatch.setattr(conclusion, "predict_afresh", afresh)
    base = tiny_base(tmp_path / "base", "llama")
    file = write_rows(tmp_path / "talks.jsonl", conversation_rows(20))
    words = [f"base={base}", "training.epochs=0.5", "training.device=cpu", "task.max_target_tokens=6"]
    assert (
        graft(["finetune", str(file), *words, "evaluation.resamples=100", "--run-dir", str(tmp_path / "run")])
        == 0
    )
    record = Run.open(tmp_path / "run").record["proof"]
    assert (record["rows"], record["ties"]) == (4, 1) and record["largest_difference"] < 1e-5
    shown = "decided 3 of 4 rows alike, and 1 otherwise in a tie"
    assert shown in Run.open(tmp_path / "run").report() and shown in " ".join(capsys.readouterr().out.split())


def metaspace_base(folder: Path) -> Path:
    """A tiny Llama with byte pairs behind a mark for spaces, which stands before each piece, as in SentencePiece."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<s>", "</s>", "<unk>", "<pad>"]
    texts = [message["content"] for row in conversation_rows(40) for message in row["messages"]]
    backend.train_from_iterator(
        [*texts, "user: assistant:"], trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=120, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = tiny_config("llama", len(tokenizer), positions=120)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_the_snippet_of_the_card_reads_the_tokens_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a tokenizer gives other tokens for the whole of a conversation than for its parts."""
    options = {
        "base": str(metaspace_base(tmp_path / "base")), "training.device": "cpu", "training.epochs": 1,
        "data.validation_share": 0.0, "data.test_share": 0.0, "task.max_target_tokens": 6,
    }  # fmt: skip
    run = graftlm.finetune(conversation_rows(8), run_directory=tmp_path / "run", quiet=True, **options)
    predictor = run.predictor("cpu")
    (code,) = re.findall(r"```python\n(.*?)```", (run.directory.model / "README.md").read_text(), re.DOTALL)
    assert "graftlm" not in code
    code = code.replace("path/to/model", str(run.directory.model))
    talks = [row["messages"][:-1] for row in conversation_rows(4, seed=3)]
    talks.append([{"role": "user", "content": "the </s> train <s>"}])
    for talk in talks:
        capsys.readouterr()
        names: dict[str, Any] = {}
        exec(code.replace('[{"role": "user", "content": "your message"}]', repr(talk)), names)
        said = capsys.readouterr().out.strip()
        split = Split("talks", {"messages": [conversation(talk)]}, ["row 1"])
        (ours,) = predictor.encode(split).inputs["input_ids"]
        assert names["ids"].tolist() == [ours]
        assert said == predictor([talk])[0].text
        whole = names["tokenizer"].apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        assert whole != ours
