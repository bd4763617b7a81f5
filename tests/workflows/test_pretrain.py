"""``graft pretrain``, from raw text to a base model that can be fine-tuned."""

from __future__ import annotations

import copy
import errno
import io
import json
import math
import os
import random
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.tiny import WORDS, tiny_base

import graftlm
from graftlm import pretraining_preparation, pretraining_proof, training_run
from graftlm.cli.evaluate import evaluate as show_scores
from graftlm.data.corpus.documents import read_documents
from graftlm.data.places import counted
from graftlm.errors import (
    ConfigurationError,
    DataError,
    Diverged,
    GraftError,
    MissingResource,
    ModelError,
    RunError,
)
from graftlm.models.base_model import load_model
from graftlm.models.corpus_tokens import CorpusTokens
from graftlm.models.locating import locate
from graftlm.predictor import Predictor
from graftlm.pretraining import Pretraining
from graftlm.pretraining_preparation import begin_with, tokens_fingerprint
from graftlm.pretraining_recipe import PretrainingRecipe, general_text, load_pretraining, look_first
from graftlm.progress import Silent
from graftlm.reports.base_card import render_base_card
from graftlm.rundir import RunDirectory
from graftlm.training import loop as training_loop
from graftlm.training.devices import open_accelerator
from graftlm.workflows.dry_run import dry_run_pretraining
from graftlm.workflows.finetune import resume as resume_finetuning
from graftlm.workflows.pretrain import pretrain, resume

OBJECTIVES: dict[str, dict[str, Any]] = {
    "masked": {"base": "bert-tiny"},
    "next_sentence": {"base": "bert-tiny", "objective.pairs": "next_sentence", "objective.unit": "word"},
    "causal": {"base": "gpt2-mini"},
    "spans": {"base": "t5-tiny"},
    "infilling": {"base": "bart-tiny"},
    "replaced": {"base": "electra-tiny", "objective.name": "replaced_token_detection"},
}


SIZE = 250


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of a few sentences of everyday words, one document a paragraph."""
    draw, file = random.Random(5), tmp_path_factory.mktemp("corpus") / "texts.txt"
    sentence = lambda: " ".join(draw.choices(WORDS[:80], k=draw.randint(4, 9))).capitalize() + "."  # noqa: E731
    documents = ["\n".join(sentence() for _ in range(draw.randint(3, 7))) for _ in range(60)]
    file.write_text("\n\n".join(documents), encoding="utf-8")
    return file


def _recipe(texts: Path, **changes: Any) -> PretrainingRecipe:
    family = str(changes.get("base", "bert-tiny")).partition("-")[0]
    size = {"bert": SIZE, "electra": SIZE, "t5": 340}.get(family, 500)
    tokenizer = {} if "/" in family else {"tokenizer.vocabulary_size": size}
    return load_pretraining(
        None,
        {
            "corpus.path": str(texts), "corpus.document": "blank_line", "corpus.held_out_share": 0.1,
            "training.max_length_tokens": 24, "training.batch_tokens": 480, "training.evaluations": 2,
            "training.epochs": 1.5, "training.checkpoint_steps": 1_000, "evaluation.proof": "none",
            **tokenizer, **changes,
        },
    )  # fmt: skip


def _leaves(value: object) -> int:
    return sum(map(_leaves, value.values())) if isinstance(value, dict) else 1


def _weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


def _steps(run: RunDirectory) -> list[dict[str, Any]]:
    lines = run.steps.read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def _stopped(
    recipe: PretrainingRecipe, path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """Return a run that was interrupted in the middle of a pass, with a checkpoint of that step."""
    real = training_run.save_checkpoint

    def interrupting(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise KeyboardInterrupt

    changed = recipe.changed({"training.checkpoint_steps": after})
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "save_checkpoint", interrupting)
        with pytest.raises(KeyboardInterrupt):
            pretrain(changed, path)
    return RunDirectory(path)


def test_trained_embeddings_are_not_thrown_away(texts: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="would be lost") as caught:
        pretrain(
            _recipe(texts, base=str(tiny_bert), **{"training.first_embeddings": "cooccurrence"}),
            tmp_path / "run",
        )
    assert caught.value.where == "training.first_embeddings"
    assert not (tmp_path / "run").exists()


def test_counted_embeddings_are_what_a_new_network_begins_with(texts: Path, tmp_path: Path) -> None:
    at_rest = {"training.learning_rate": 1e-9, "training.epochs": 0.2}
    random, counted = (
        _weights(
            pretrain(_recipe(texts, **at_rest, **{"training.first_embeddings": first}), tmp_path / first)
        )
        for first in ("random", "cooccurrence")
    )
    apart = {name for name in random if not torch.allclose(random[name], counted[name], atol=1e-6)}
    assert apart == {"bert.embeddings.word_embeddings.weight"}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_interrupted_and_resumed_is_as_though_never_interrupted(
    case: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = case in ("masked", "replaced")
    more = {"training.averaging": 0.9, "training.optimizer": "muon"} if special else {}
    more |= {"training.first_embeddings": "cooccurrence"} if case in ("replaced", "spans") else {}
    recipe = _recipe(texts, **OBJECTIVES[case], **more)
    whole = pretrain(recipe.changed({"training.checkpoint_steps": 4}), tmp_path / "whole")
    # Of the whole one all is kept that layers compute; here they are computed again.
    checkpointed = case in ("next_sentence", "causal", "spans", "replaced")
    again = recipe.changed({"training.gradient_checkpointing": checkpointed})
    stopped = _stopped(again, tmp_path / "stopped", 4, monkeypatch)
    with pytest.raises(RunError, match="graft pretrain --resume"):
        show_scores(stopped.path)
    with pytest.raises(ModelError, match="graft pretrain --resume"):
        Predictor.open(stopped.path)
    assert len(list(stopped.checkpoints.iterdir())) == 1
    resume(stopped.path)
    one, other = _weights(whole), _weights(stopped)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert _steps(whole) == _steps(stopped)
    of_tokenizer = [(run.model / "tokenizer_config.json").read_text("utf-8") for run in (whole, stopped)]
    assert of_tokenizer[0] == of_tokenizer[1] and "local" not in of_tokenizer[0]
    record = stopped.read_record()
    assert record["state"] == "finished" and record["kept_step"] == record["steps"] > 4
    usual = ("adafactor", 1e-2) if case == "spans" else ("adamw", 1e-3)
    assert (record["optimizer"], record["learning_rate"]) == (
        more.get("training.optimizer", usual[0]),
        usual[1],
    )


@pytest.mark.parametrize(
    ("base", "head", "output"),
    [
        ("bert-tiny", transformers.AutoModelForPreTraining, "prediction_logits"),
        ("modernbert-mini", transformers.AutoModelForMaskedLM, "logits"),
    ],
)
def test_from_text_to_a_proved_base_that_is_fine_tuned(
    base: str, head: Any, output: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = _recipe(
        texts,
        **{
            "base": base, "objective.pairs": "next_sentence", "evaluation.proof": "fresh_process",
            "training.epochs": 6.0,
        },
    )  # fmt: skip
    size = recipe.tokenizer.vocabulary_size
    run = pretrain(recipe, tmp_path / "run")
    record, evaluation = run.read_record(), json.loads(run.evaluation("held_out").read_text())
    assert record["proof"]["done"] and record["proof"]["largest_difference"] < 1e-3
    scores, baseline = evaluation["scores"]["values"], evaluation["baseline"]["scores"]["values"]
    assert scores["loss"]["value"] < np.log(size) + np.log(2)
    assert {"perplexity", "masked_accuracy", "pair_accuracy"} <= scores.keys() == baseline.keys()
    assert all(each["low"] <= each["value"] <= each["high"] for each in scores.values())
    # It loads without GraftLM, with every weight.
    model, loading = head.from_pretrained(run.model, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.model)
    encoded = tokenizer("the parcel is late", "it will come", return_tensors="pt")
    assert model(**encoded)[output].shape[-1] == size
    # As in training, the second text has segment id 1 in a family that has any.
    segments = encoded.get("token_type_ids", torch.zeros(1))
    assert bool(segments.any()) == (getattr(model.config, "type_vocab_size", 0) > 1)
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert "masked language modelling" in card and "proved" in card and "perplexity" in card
    threads = counted(record["machine"]["threads"], "thread")
    assert f" hours on cpu, {threads}\n" in card
    run.update_record(processes=2)
    assert f" hours on cpu, 2 processes of {threads} each\n" in render_base_card(run)
    assert "It knows its corpus and nothing else" in card
    # What is handed on can be read by others.
    assert {file.stat().st_mode & 0o777 for file in run.model.iterdir()} == {0o644}
    # Other commands know what it is.
    show_scores(run.path)
    shown = capsys.readouterr().out
    assert "held out" in shown and "proved: a fresh process" in shown
    with pytest.raises(ModelError, match=r"a base model.*\n.*graft finetune rows.csv base="):
        Predictor.open(run.path)
    with pytest.raises(RunError, match=r"graft pretrain made this run\n.*graft pretrain --resume"):
        resume_finetuning(run.path)
    rows = [
        {"text": f"the {word} is {kind}", "label": kind} for word in WORDS[80:100] for kind in ("good", "bad")
    ]
    tuned = graftlm.finetune(
        rows, base=str(run.model), run_directory=tmp_path / "tuned", quiet=True,
        **{"training.epochs": 1, "evaluation.proof": "none"},
    )  # fmt: skip
    assert tuned.metrics["accuracy"] >= 0.0


def test_of_replaced_token_detection_the_network_alone_is_saved_proved_and_trained_further(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = {"objective.name": "replaced_token_detection", "objective.generator_size": 0.5}
    monkeypatch.setattr(pretraining_proof, "subprocess", _SameProcess(monkeypatch))
    trained: list[Any] = []
    real = training_run.TrainingRun.execute

    def executing(self: Any) -> Any:
        fitted = real(self)
        trained.append(copy.deepcopy(self.model.state_dict()))
        return fitted

    monkeypatch.setattr(training_run.TrainingRun, "execute", executing)
    recipe = _recipe(texts, base="electra-tiny", **objective, **{"evaluation.proof": "fresh_process"})
    run = pretrain(recipe, tmp_path / "run")
    record, evaluation = run.read_record(), json.loads(run.evaluation("held_out").read_text())
    assert record["proof"]["done"] and record["execution"]["path"] == "flat"
    scores, baseline = evaluation["scores"]["values"], evaluation["baseline"]["scores"]["values"]
    assert {"perplexity", "masked_accuracy", "detection_accuracy"} <= scores.keys() == baseline.keys()
    assert (
        0.8 < baseline["detection_accuracy"]["value"] < 1.0
        and "none is replaced" in evaluation["baseline"]["name"]
    )
    # Plain transformers loads it whole, and it says what the trained network said.
    model, loading = transformers.AutoModelForPreTraining.from_pretrained(run.model, output_loading_info=True)
    assert type(model) is transformers.ElectraForPreTraining
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert record["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    weights = {name: weight for name, weight in trained[0].items() if not name.startswith("generator.")}
    assert len(weights) < len(trained[0])
    twin = transformers.ElectraForPreTraining(model.config).eval()
    twin.load_state_dict(weights)
    encoded = transformers.AutoTokenizer.from_pretrained(run.model)("the parcel is late", return_tensors="pt")
    assert torch.allclose(model(**encoded).logits, twin(**encoded).logits, atol=1e-6)
    assert all(torch.equal(weight, weights[name]) for name, weight in _weights(run).items())
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert "replaced token detection" in card and "feature-extraction" in card
    assert "are of the generator" in card
    # The generator is a masked language model of its own, with the embeddings that both were trained with.
    generator, loading = transformers.AutoModelForMaskedLM.from_pretrained(
        run.generator, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert generator.num_parameters() < model.num_parameters()
    own = {
        name.removeprefix("generator."): weight for name, weight in trained[0].items() if name not in weights
    }
    found = generator.state_dict()
    assert own.keys() <= found.keys() and all(torch.equal(own[name], found[name]) for name in own)
    assert torch.equal(generator.get_input_embeddings().weight, model.get_input_embeddings().weight)
    # Trained further it goes on with its generator, which judges the model before with what it draws after.
    said = Said()
    further = _recipe(texts, base=str(run.model), **objective, **{"training.epochs": 0.5})
    for name in ("begun", "other"):
        (tmp_path / name).mkdir()
    begun = Pretraining(further, RunDirectory(tmp_path / "begun"), open_accelerator("cpu"), None, said)
    assert any(line.startswith(f"the generator of {run.path}") for line in said.lines)
    assert not any("new generator" in line for line in said.lines)
    beside = begun.model.state_dict()
    assert own.keys() and all(
        torch.equal(beside[f"generator.{name}"], weight) for name, weight in own.items()
    )
    other = further.changed({"objective.generator_size": 0.25})
    fresh = Pretraining(other, RunDirectory(tmp_path / "other"), open_accelerator("cpu"), None, said)
    assert any("not trained further: it has another size" in line for line in said.lines)
    assert any("a new generator" in line for line in said.lines)
    before, now = begun.identity(), {**begun.identity(), "generator": fresh.identity()["generator"]}
    assert begun.changes(before, now, extending=False) == [
        "generator: the weights that the generator begins with changed"
    ]
    assert begun.changes(now, before, extending=True) == begun.changes(before, now, extending=False)
    assert (
        begun.changes({key: value for key, value in before.items() if key != "generator"}, before, False)
        == []
    )
    run = pretrain(further, tmp_path / "further")
    change = json.loads(run.evaluation("held_out").read_text())["before"]["change"]["values"]
    assert (
        change["masked_accuracy"]["value"] == change["perplexity"]["value"] == 0.0 != change["loss"]["value"]
    )
    tuned = graftlm.finetune(
        [{"text": f"the {word} is {kind}", "label": kind} for word in WORDS[80:100] for kind in ("good", "bad")],
        base=str(run.model), run_directory=tmp_path / "tuned", quiet=True,
        **{"training.epochs": 1, "evaluation.proof": "none"},
    )  # fmt: skip
    assert tuned.metrics["accuracy"] >= 0.0


class _SameProcess:
    """``subprocess`` for a proof whose child works in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def run(self, command: list[str], input: str, **_: Any) -> Any:
        out = io.StringIO()
        with self._monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
            patch.setattr("sys.stdout", out)
            pretraining_proof.main(command[command.index("graftlm.pretraining_proof") + 1 :])
        return subprocess.CompletedProcess(command, 0, out.getvalue(), "")


class Said(Silent):
    """What a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, sentence: str) -> None:
        self.lines.append(sentence)

    warn = say


def test_a_base_model_is_trained_further(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    recipe = _recipe(texts, base=str(tiny_bert), **{"training.max_length_tokens": 24, "training.epochs": 1.0})
    said = Said()
    run = pretrain(recipe, tmp_path / "run", said)
    assert any("cls.predictions" in line and "these weights are new" in line for line in said.lines)
    before, after = load_model(locate(str(tiny_bert)), ("AutoModelForMaskedLM",), {}, 1), _weights(run)
    record = run.read_record()
    assert all("cls" in name or "predictions" in name for name in record["new_parameters"])
    moved = [
        name for name, weight in before.model.state_dict().items()
        if name in after and name.startswith("bert.") and not torch.equal(weight, after[name])
    ]  # fmt: skip
    assert moved and transformers.AutoTokenizer.from_pretrained(run.model).get_vocab() == (
        transformers.AutoTokenizer.from_pretrained(tiny_bert).get_vocab()
    )


def test_a_base_trained_further_tells_what_changed(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    own, other = tmp_path / "own.txt", tmp_path / "other.txt"
    own.write_text(
        texts.read_text(encoding="utf-8").replace(WORDS[0], "xyzzy").replace(WORDS[1], "zyxwv"),
        encoding="utf-8",
    )
    other.write_text("\n\n".join(" ".join(WORDS[at : at + 9]) for at in range(0, 60, 3)), encoding="utf-8")
    recipe = _recipe(
        own, base=str(tiny_bert), **{"evaluation.general_text": str(other), "training.epochs": 4.0}
    )
    recipe = recipe.changed({"tokenizer.extend_by": 2})
    run = pretrain(recipe, tmp_path / "run")
    for name in ("held_out", "general_text"):
        evaluation = json.loads(run.evaluation(name).read_text())
        before, change = (evaluation["before"][key]["values"] for key in ("scores", "change"))
        for metric, score in evaluation["scores"]["values"].items():
            difference = score["value"] - before[metric]["value"]
            assert change[metric]["value"] == pytest.approx(difference, rel=1e-9)
            assert change[metric]["low"] <= difference <= change[metric]["high"]
        # The very first loss of the training is near that of the model before it, and not near the last.
        assert abs(before["loss"]["value"] - _steps(run)[0]["loss"]) < 1.0 or name == "general_text"
    assert (
        json.loads(run.evaluation("held_out").read_text())["before"]["change"]["values"]["loss"]["high"] < 0
    )
    # Nothing is left of the training in the model that is judged as it was before.
    again = pretrain(recipe.changed({"training.epochs": 0.5}), tmp_path / "again")
    first, second = (json.loads(each.evaluation("held_out").read_text())["before"] for each in (run, again))
    assert first["scores"] == second["scores"]
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert "| before | change |" in card and "How the loss fell" in card
    assert "trained further" in card and "2 tokens of the corpus added" in card and "nothing else" not in card
    report = run.read_record()["tokenizer"]
    new, old = report["tokenizer"], report["before words were added"]
    assert new["tokens_per_word"] < old["tokens_per_word"]


def test_other_text_has_columns_and_an_encoding_of_its_own(texts: Path, tmp_path: Path) -> None:
    """Those of the corpus do not count for it, and errors name its keys."""
    rows = "".join(f'{{"body": "Zweites Stück Nummer {number} über Käse."}}\n' for number in range(20))
    other = tmp_path / "other.jsonl"
    other.write_text(rows, encoding="latin-1")
    key = "evaluation.general_text"
    section = {f"{key}.path": str(other), f"{key}.text_column": "body", f"{key}.encoding": "latin-1"}
    recipe = _recipe(texts, **section)
    assert _leaves(recipe.dump()) <= 60 and recipe.changed({}) == recipe
    look_first(recipe)
    found = general_text(recipe.evaluation)
    assert found is not None and (found.text_column, found.encoding, found.duplicates) == (
        "body",
        "latin-1",
        "keep",
    )
    (first, *others) = read_documents(found, Silent())
    assert first.text == "Zweites Stück Nummer 0 über Käse." and len(others) == 19
    with pytest.raises(DataError, match=r"evaluation\.general_text\.text_column=") as caught:
        look_first(_recipe(texts, **{**section, f"{key}.text_column": "boddy"}))
    assert "corpus." not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"evaluation\.general_text\.colum: unknown option"):
        _recipe(texts, **section, **{f"{key}.colum": "body"})
    # A path alone is a section with everything else as it usually is.
    plain = _recipe(texts, **{key: str(other)})
    assert plain == _recipe(texts, **{f"{key}.path": str(other)})


def test_lora_is_worked_into_the_base(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    recipe = _recipe(texts, base=str(tiny_bert), **{"strategy.name": "lora", "strategy.rank": 2})
    with pytest.raises(ConfigurationError, match=r"training\.optimizer.*\n.*adamw"):
        pretrain(recipe.changed({"training.optimizer": "adafactor"}), tmp_path / "run")
    run = pretrain(recipe, tmp_path / "run")
    assert not any("lora" in name for name in _weights(run))
    (strategy,) = re.findall(
        "^- strategy lora: .*", (run.model / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "rank 2" in strategy
    _, loading = transformers.AutoModelForMaskedLM.from_pretrained(run.model, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]


def test_a_longer_run_goes_on_from_a_finished_one(texts: Path, tmp_path: Path) -> None:
    run = pretrain(_recipe(texts), tmp_path / "run")
    steps = run.read_record()["steps"]
    with pytest.raises(RunError, match="finished"):
        resume(run.path)
    with pytest.raises(ConfigurationError, match="not more than"):
        resume(run.path, 1.0)
    resume(run.path, 3.0)
    assert run.read_record()["steps"] > steps


def test_another_text_under_the_same_name_is_refused(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.txt"
    own.write_text(texts.read_text(encoding="utf-8"), encoding="utf-8")
    run = _stopped(_recipe(own), tmp_path / "run", 3, monkeypatch)
    own.write_text(
        texts.read_text(encoding="utf-8").replace("parcel", "letter") + "\n\nMore of it. Yes.",
        encoding="utf-8",
    )
    with pytest.raises(GraftError):
        resume(run.path)
    own.write_text(texts.read_text(encoding="utf-8"), encoding="utf-8")
    resume(run.path)
    assert run.read_record()["state"] == "finished"


def test_an_interruption_while_the_corpus_is_prepared_goes_on(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def interrupting(self: Any, sentences: Any, begins: Any) -> Any:
        calls.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CorpusTokens, "__call__", interrupting)
        with pytest.raises(KeyboardInterrupt):
            pretrain(_recipe(texts), tmp_path / "run")
    assert calls
    resume(tmp_path / "run")
    assert RunDirectory(tmp_path / "run").read_record()["state"] == "finished"


@pytest.mark.parametrize("before", ["tokenizer.json", "tokenizer_config.json"])
def test_a_kill_while_the_tokenizer_is_kept_goes_on(
    before: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it is there already, and whether or not it is the whole."""
    run, real = RunDirectory(tmp_path / "run"), pretraining_preparation.write_bytes

    def killed(path: Path, content: bytes) -> None:
        if path.name == before:
            raise KeyboardInterrupt
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining_preparation, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(_recipe(texts), run.path)
    resume(run.path)
    whole = pretrain(_recipe(texts), tmp_path / "whole")
    own, theirs = _weights(run), _weights(RunDirectory(whole.path))
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)


def test_of_several_processes_one_trains_the_tokenizer(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, made = pretraining_preparation.train_tokenizer, list[Any]()

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)
        made.append(train(*arguments))
        return made[-1]

    monkeypatch.setattr(pretraining_preparation, "train_tokenizer", slowly)
    begin = lambda _: begin_with(_recipe(texts), tmp_path / "tokenizer", Silent())  # noqa: E731
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(begin, range(2))
    assert len(made) == 1
    assert tokens_fingerprint(first.tokenizer) == tokens_fingerprint(second.tokenizer)


@pytest.mark.parametrize(
    "changes",
    [
        {"training.short_share": 0.9},
        {"objective.pairs": "next_sentence", "training.epochs": 3},
        {"base": "gpt2-mini", "training.short_share": 0.5},
    ],
)
def test_a_step_that_diverges_names_the_documents_of_its_pass(
    changes: dict[str, Any], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Examples are cut anew in each pass, some of them short, so that their numbers alone say nothing."""
    recipe = _recipe(texts, **changes)
    steps = pretrain(recipe, tmp_path / "whole").read_record()["steps"]
    bad = random.Random(seed).randint(1, steps)
    seen: list[set[int]] = []
    real = training_loop._accumulate  # pyright: ignore[reportPrivateUsage]

    def spoilt(model: Any, due: Any, *rest: Any) -> Any:
        value, tokens = real(model, due, *rest)
        seen.append(set(due.source.documents()[due.rows].tolist()))
        return (value * math.nan if len(seen) == bad else value), tokens

    monkeypatch.setattr(training_loop, "_accumulate", spoilt)
    with pytest.raises(Diverged, match=f"step {bad}: loss nan") as caught:
        pretrain(recipe, tmp_path / "run")
    named = {int(number) - 1 for number in re.findall(r"document (\d+)", str(caught.value))}
    assert named and named <= seen[-1] and caught.value.step == bad


@pytest.mark.parametrize("written", ["shards", "signatures"])
def test_a_full_disk_while_the_corpus_is_prepared_keeps_what_is_written(
    written: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, run = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RunDirectory(tmp_path / "run")

    def refuse(*_: Any) -> None:
        raise full

    place = {
        "shards": "graftlm.data.corpus.writing.PartWriter._append",
        "signatures": "graftlm.pretraining.build_corpus",  # what a library raises while a corpus is made
    }[written]
    with monkeypatch.context() as patch:
        patch.setattr(place, refuse)
        with pytest.raises(MissingResource, match=r"(?s)No space left on device.*--resume") as caught:
            pretrain(_recipe(texts), run.path)
    assert str(run.path) in caught.value.fix and caught.value.exit_code == 3
    tokenizer = (run.tokenizer / "tokenizer.json").stat().st_mtime_ns
    resume(run.path)
    assert run.read_record()["state"] == "finished"
    assert (run.tokenizer / "tokenizer.json").stat().st_mtime_ns == tokenizer


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({"training.averaging": 0.99}, 20, 20),
        ({"training.optimizer": "muon"}, 12.05, 15.5),
        ({"training.optimizer": "adafactor"}, 8, 10),
    ],
)
def test_a_dry_run_counts_what_the_optimiser_and_averages_keep(
    changes: dict[str, Any], least: float, most: float, texts: Path
) -> None:
    costs = json.loads(dry_run_pretraining(_recipe(texts, **changes)).to_json())["costs"]
    assert costs["parameters"] == costs["moving_parameters"]
    assert least <= costs["state_bytes"] / costs["parameters"] <= most


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece"])
def test_bits_per_byte_are_told_where_no_byte_is_lost(kind: str, texts: Path, tmp_path: Path) -> None:
    said = Said()
    tokenizer = {"tokenizer.kind": kind, "tokenizer.vocabulary_size": 500 if kind == "byte_bpe" else SIZE}
    run = pretrain(_recipe(texts, base="gpt2-mini", **tokenizer), tmp_path / "run", said)
    values = json.loads(run.evaluation("held_out").read_text(encoding="utf-8"))["scores"]["values"]
    assert ("bits_per_byte" in values) == (kind == "byte_bpe")
    assert any("bits per byte are not reported" in line for line in said.lines) == (kind == "wordpiece")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"base": "bert-mnii"}, ConfigurationError, "bert-mini"),
        (
            {"training.max_length_tokens": 7},
            ConfigurationError,
            "max_length_tokens: must be 8 or more, got 7",
        ),
        ({"base": "gpt2-mini", "objective.name": "masked_language_modelling"}, GraftError, "hidden"),
        ({"base": "bert-tiny", "objective.name": "replaced_token_detection"}, ConfigurationError, "ELECTRA"),
        (
            {"base": "bert-tiny", "objective.name": "causal_language_modelling"},
            ConfigurationError,
            "not write",
        ),
        ({"strategy.name": "lora"}, ConfigurationError, "random"),
        ({"base": "bart-tiny", "training.batch_tokens": 24}, ConfigurationError, "written"),
        ({"base": "t5-tiny", "training.batch_tokens": 24}, ConfigurationError, "written"),
        (
            {"base": "t5-tiny", "training.max_length_tokens": 2_048, "training.batch_tokens": 4_096},
            ConfigurationError,
            "114 spans, and this vocabulary has 100 sentinels",
        ),
        ({"tokenizer.extend_by": 5}, ConfigurationError, "extend_by"),
        ({"tokenizer.vocabulary_size": 40}, ConfigurationError, "vocabulary"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    changes: dict[str, Any], error: type[Exception], said: str, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        pretrain(_recipe(texts, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_layers_that_cannot_be_computed_again_are_refused_before_the_corpus_is_made(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftlm.pretraining.build_corpus", lambda *_: pytest.fail("the corpus is made"))
    file = tmp_path / "albert.json"
    sizes = {"hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4, "intermediate_size": 48}
    file.write_text(json.dumps({"model_type": "albert", **sizes}), encoding="utf-8")
    changes = {"training.gradient_checkpointing": True, "tokenizer.kind": "wordpiece"}
    with pytest.raises(ConfigurationError, match="second time") as caught:
        pretrain(
            _recipe(texts, base=str(file), **changes, **{"tokenizer.vocabulary_size": SIZE}), tmp_path / "run"
        )
    assert caught.value.where == "training.gradient_checkpointing"


def test_a_base_keeps_its_tokenizer_and_its_limit(tiny_bert: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.kind"):
        pretrain(_recipe(texts, base=str(tiny_bert), **{"tokenizer.kind": "byte_bpe"}), tmp_path / "a")
    too_long = {"training.max_length_tokens": 4_000, "training.batch_tokens": 8_000}
    with pytest.raises(ConfigurationError, match="exceed the limit"):
        pretrain(_recipe(texts, base=str(tiny_bert), **too_long), tmp_path / "b")


def test_a_corpus_of_nothing_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("  \n\n", encoding="utf-8")
    with pytest.raises(GraftError, match="no text"):
        pretrain(_recipe(empty), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_complete_within_sixty_fields_and_loads_back(texts: Path, tmp_path: Path) -> None:
    recipe = _recipe(texts)
    assert _leaves(recipe.dump()) <= 60
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_pretraining(file) == recipe
    with pytest.raises(ConfigurationError, match="batch_tokens"):
        _recipe(texts, **{"training.batch_tokens": 10})
    with pytest.raises(ConfigurationError, match="exceed 1"):
        _recipe(texts, **{"training.warmup_share": 0.9})
    with pytest.raises(ConfigurationError, match="learning_rate"):
        _recipe(texts, **{"training.learning_rat": 1.0})


def test_a_dry_run_says_what_it_will_cost_and_leaves_nothing(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = _recipe(texts)
    found = dry_run_pretraining(recipe)
    said = found.to_yaml()
    steps = pretrain(recipe, tmp_path / "run").read_record()["steps"]
    assert f"# {steps} steps (1.5 passes)" in said and "tokens/s over" in said and "0.00% unknown" in said
    assert f"# adamw, learning rate {recipe.training.learning_rate or 1e-3:g} at its peak\n" in said
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
    (tmp_path / "recipe.yaml").write_text(said, encoding="utf-8")
    assert load_pretraining(tmp_path / "recipe.yaml") == recipe
    told = json.loads(found.to_json())
    assert told["recipe"] == recipe.dump() and told["said"] == list(found.sentences)
    assert (
        told["costs"]["steps"] == steps
        and told["costs"]["documents"]["train"] > told["costs"]["documents"]["held_out"] > 0
    )


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ({"model_type": "gpt2"}, "causal_language_modelling"),
        ({"model_type": "mbart"}, "infilling"),
        ({"model_type": "mt5"}, "span_corruption"),
        ({"model_type": "xlm-roberta"}, "masked_language_modelling"),
        ({"model_type": "electra"}, "replaced_token_detection"),
        ({"model_type": "electra", "architectures": ["ElectraForMaskedLM"]}, "masked_language_modelling"),
    ],
)
def test_the_objective_is_that_of_the_configuration(
    settings: dict[str, Any], objective: str, tmp_path: Path
) -> None:
    """Whatever the file or folder is called."""
    file = tmp_path / "t5-mine.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    recipe = load_pretraining(None, {"corpus.path": "x", "base": str(file)})
    assert recipe.dump()["objective"]["name"] == objective


def test_a_base_model_is_trained_further_with_the_objective_of_its_family(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "gpt2", family="gpt2")
    recipe = load_pretraining(None, {"corpus.path": "x", "base": str(base)})
    assert recipe.dump()["objective"]["name"] == "causal_language_modelling"


def test_without_held_out_text_it_is_proved_by_what_was_trained_on(texts: Path, tmp_path: Path) -> None:
    said = Said()
    changes = {"corpus.held_out_share": 0.0, "evaluation.proof": "fresh_process", "training.epochs": 0.3}
    run = pretrain(_recipe(texts, **changes), tmp_path / "run", said)
    assert run.read_record()["proof"]["done"]


def test_a_model_that_has_learnt_nothing_is_called_so(texts: Path, tmp_path: Path) -> None:
    said = Said()
    pretrain(_recipe(texts, **{"training.learning_rate": 1e-9}), tmp_path / "run", said)
    assert any("not below" in line and "training.epochs" in line for line in said.lines)


def test_a_run_is_not_extended_to_less(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pretrain(_recipe(texts, **{"training.epochs": 0.3}), tmp_path / "run")
    monkeypatch.setattr("graftlm.workflows.pretrain.Pretraining", lambda *_: pytest.fail("too late"))
    with pytest.raises(ConfigurationError, match=r"not more than the 0\.3"):
        resume(run.path, 0.2)


def test_a_text_that_is_not_there_is_refused_before_any_work(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftlm.python_api.train_base", lambda *_: pytest.fail("too late"))
    with pytest.raises(DataError, match="no such file"):
        graftlm.pretrain(texts, **{"evaluation.general_text": str(tmp_path / "none.txt")})
