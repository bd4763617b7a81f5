"""Low-rank adapters: they begin as nothing, are saved with their head, and plain peft reads them."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.strategies.test_contract import classifier
from tests.tasks.test_contract import CASES, inputs_of, options_of, rows_of
from tests.test_training_run import StopAt
from tests.tiny import FAMILIES, tiny_base

from graftlm.errors import ConfigurationError, GraftError, MissingResource, ModelError
from graftlm.models.adapters import adapter_parameters, linear_layers, merged_weights
from graftlm.models.heads import head_parameters
from graftlm.predictor import Predictor
from graftlm.recipe import load_recipe
from graftlm.strategies.lora import Lora
from graftlm.workflows.finetune import finetune, resume

PLAIN = """
import json, sys, torch
import peft, transformers
assert not any(name.startswith("graftlm") for name in sys.modules)
folder, architecture, ids, labels = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
ids = torch.tensor(ids)
kind = "Auto" + "Peft" + architecture.removeprefix("Auto")
with torch.inference_mode():
    more = {"num_labels": labels} if labels else {}
    model = getattr(peft, kind).from_pretrained(folder, **more).eval()
    result = model(input_ids=ids, attention_mask=torch.ones_like(ids))
found = [result[name].tolist() for name in ("logits", "start_logits", "end_logits") if name in result]
print(json.dumps([found, type(model).__name__]))
"""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        family: tiny_base(folder / family, family)
        for family in {*FAMILIES, *(family for _, family in CASES), "t5"}
    }


def recipe_of(name: str, base: Path, **changes: Any) -> Any:
    options = {
        "strategy.name": "lora", "strategy.dropout": 0.1, "training.epochs": 1, "training.batch_size": 8,
        "evaluation.resamples": 100, "evaluation.proof": "none", "training.device": "cpu", **changes,
    }  # fmt: skip
    return load_recipe(None, options_of(name, base, **options))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_begins_as_nothing(family: str, seed: int) -> None:
    model = classifier(family).eval()
    ids = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(seed))
    ids[:, -1] = 1 if family != "gpt2" else ids[:, -1]
    model.config.pad_token_id = 0
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        before = model(**inputs).logits
    kind, state = type(model), torch.get_rng_state()
    Lora(rank=3).adapt(model, [], 5)
    assert torch.equal(state, torch.get_rng_state())
    assert type(model) is kind
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, before)
    again = classifier(family)
    Lora(rank=3).adapt(again, [], 5)
    named = dict(again.named_parameters())
    for name in adapter_parameters(model):
        assert torch.equal(model.get_parameter(name), named[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_layers_of_the_body_and_no_other(family: str) -> None:
    model = classifier(family, layers=2)
    plain = [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and name.startswith(model.base_model_prefix)
    ]
    assert linear_layers(model) == [name for name in plain if "pooler" not in name]
    Lora(rank=2).adapt(model, [], 0)
    groups = Lora().parameter_groups(model)
    moving = {name for group in groups for name in group.names}
    assert moving == {*adapter_parameters(model), *head_parameters(model)}
    assert len(adapter_parameters(model)) == 2 * len([name for name in plain if "pooler" not in name])


def test_chosen_layers_and_names_that_are_none() -> None:
    model = classifier("bert", layers=2)
    Lora(target=["query", "attention.self.value"], rank=2).adapt(model, [], 0)
    assert len(adapter_parameters(model)) == 8
    with pytest.raises(ConfigurationError, match=r"'quary'.*Did you mean 'query'") as caught:
        Lora(target=["query", "quary"]).adapt(classifier("bert"), [], 0)
    assert caught.value.where == "strategy.target" and "value" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("strategy.rank=0", "strategy.rank: must be more than 0"),
        ("strategy.alpha=-1", "strategy.alpha: must be more than 0"),
        ("strategy.dropout=1.0", "strategy.dropout: must be less than 1"),
        ("strategy.target=[]", "strategy.target"),
        ("strategy.target=everything", "strategy.target"),
        ("strategy.rang=4", "Did you mean 'strategy.rank'"),
    ],
)
def test_wrong_options_are_refused(change: str, message: str) -> None:
    with pytest.raises(GraftError, match=re.escape(message)):
        load_recipe(None, ["strategy.name=lora", change])


@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, "t5"])
def test_merged_weights_compute_the_same(family: str, stabilised: bool, seed: int) -> None:
    model = classifier(family) if family != "t5" else _t5()
    plain = copy.deepcopy(model)
    Lora(rank=3, rank_stabilised=stabilised).adapt(model, [], 0)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name in adapter_parameters(model):
            model.get_parameter(name).normal_(std=0.1)
    model.eval()
    ids = torch.randint(2, 50, (1, 6))
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if family == "t5" else {})}
    with torch.inference_mode():
        adapted = model(**inputs).logits
    weights = merged_weights(model)
    assert list(weights) == list(plain.state_dict())
    plain.load_state_dict(weights)
    plain.eval()
    with torch.inference_mode():
        torch.testing.assert_close(plain(**inputs).logits, adapted, rtol=1e-4, atol=1e-5)


def _t5() -> Any:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    )


MORE = [("text_classification", family) for family in FAMILIES if family != "bert"]


@pytest.mark.parametrize(("name", "family"), [*CASES, ("text_generation", "t5"), *MORE])
def test_what_is_saved_is_what_was_trained_and_plain_peft_reads_it(
    name: str, family: str, bases: dict[str, Path], tmp_path: Path, warm_python: str
) -> None:
    recipe = recipe_of(name, bases[family], **{"training.learning_rate": 1e-2})
    run = finetune(recipe, rows_of(name, 30), tmp_path / "run")
    folder = run.directory.model
    assert not (folder / "model.safetensors").exists()
    written = json.loads((folder / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(bases[family].resolve())
    assert "An adapter" in (folder / "README.md").read_text()
    predictor = Predictor.open(folder, "cpu")
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    rows = rows_of(name, 30)
    texts = [inputs_of(predictor.task, rows[int(line["row"].rsplit(" ", 1)[1]) - 1]) for line in lines]
    for line, prediction in zip(lines, predictor(texts), strict=True):
        for key, value in predictor.task.record(prediction).items():
            if key in line and isinstance(value, float):
                assert line[key] == pytest.approx(value, abs=1e-4)
    if predictor.task.decoding is not None and family != "gpt2" and family != "llama":
        return  # their plain snippet runs below
    ids = [2, 9, 14, 3]
    child = subprocess.run(
        [
            warm_python, "-c", PLAIN, str(folder), predictor.facts.architecture, json.dumps([ids]),
            str(len(predictor.facts.labels) or int(name == "text_regression")),
        ],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    found, kind = json.loads(child.stdout.splitlines()[-1])
    assert kind.startswith("PeftModelFor")
    with torch.inference_mode():
        ours = predictor.model(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
        )
    wanted = [ours[key] for key in ("logits", "start_logits", "end_logits") if key in ours]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def run(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.mktemp("own") / "base"
    shutil.copytree(bases["bert"], base)
    recipe = recipe_of("text_classification", base, **{"evaluation.proof": "fresh_process"})
    return finetune(recipe, rows_of("text_classification", 40), tmp_path_factory.mktemp("lora") / "run")


def test_a_run_with_an_adapter_is_proved(run: Any) -> None:
    assert run.record["proof"]["done"] and run.record["learning_rate"] == Lora.learning_rate
    assert run.record["execution"]["path"] == "flat"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")  # of peft 0.21
def test_the_snippet_of_the_card_runs(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    card = (run.directory.model / "README.md").read_text()
    assert "library_name: peft" in card and "PeftModel" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    capsys.readouterr()
    exec(code.replace("path/to/model", str(run.directory.model)), {})
    label, score = capsys.readouterr().out.rsplit(" ", 1)
    (ours,) = run.predictor("cpu")(["your text"])
    assert label == ours.label and float(score) == pytest.approx(ours.score, abs=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")  # of peft 0.21
def test_the_snippet_of_the_card_writes(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of("text_generation", bases["bart"], **{"training.epochs": 3, "task.num_beams": 3})
    run = finetune(recipe, rows_of("text_generation", 30), tmp_path / "run")
    (code,) = re.findall(r"```python\n(.*?)```", (run.directory.model / "README.md").read_text(), re.DOTALL)
    capsys.readouterr()
    exec(code.replace("path/to/model", str(run.directory.model)), {})
    (ours,) = run.predictor("cpu")(["your source"])
    assert capsys.readouterr().out.strip() == ours.text


def test_merged_it_is_a_model_like_any_other(bases: dict[str, Path], tmp_path: Path) -> None:
    changes = {"strategy.merge": True, "training.learning_rate": 1e-2, "evaluation.proof": "fresh_process"}
    rows = rows_of("text_classification", 40)
    run = finetune(recipe_of("text_classification", bases["bert"], **changes), rows, tmp_path / "run")
    assert run.record["proof"]["done"]
    names = {file.name for file in run.directory.model.iterdir()}
    assert "model.safetensors" in names and not any(name.startswith("adapter") for name in names)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(run.directory.model).eval()
    ids = torch.tensor([[2, 9, 14, 3]])
    with torch.inference_mode():
        ours = run.predictor("cpu").model(input_ids=ids).logits
        torch.testing.assert_close(plain(input_ids=ids).logits, ours)


def test_a_base_model_that_is_gone_or_another_is_said(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run.directory.model, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    base = Path(settings["base_model_name_or_path"])

    def named(path: Path) -> None:
        (folder / "adapter_config.json").write_text(
            json.dumps(settings | {"base_model_name_or_path": str(path)})
        )

    named(tmp_path / "gone")
    with pytest.raises(MissingResource, match="the base model of this adapter is not there") as caught:
        Predictor.open(folder, "cpu")
    assert "base_model_name_or_path" in caught.value.fix
    shutil.copytree(base, tmp_path / "moved")
    named(tmp_path / "moved")
    assert Predictor.open(folder, "cpu")(["the train"]) == run.predictor("cpu")(["the train"])
    tiny_base(tmp_path / "other", "bert", seed=9)
    named(tmp_path / "other")
    with pytest.raises(ModelError, match="is not the base model that this adapter was trained on"):
        Predictor.open(folder, "cpu")


def test_a_damaged_adapter_is_refused(run: Any, tmp_path: Path) -> None:
    for number, change in enumerate(
        (
            {"r": 0},
            {"peft_type": "IA3"},
            {"target_modules": ["nothing"]},
            {"r": "many"},
            {"target_modules": None},
            {"r": 3},
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(run.directory.model, folder)
        settings = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(settings | change))
        with pytest.raises(ModelError, match="adapter"):
            Predictor.open(folder, "cpu")


def test_an_adapter_is_no_base_model(run: Any, tmp_path: Path) -> None:
    recipe = recipe_of("text_classification", run.directory.model)
    with pytest.raises(ModelError, match="this folder holds an adapter") as caught:
        finetune(recipe, rows_of("text_classification", 40), tmp_path / "run")
    assert "strategy.merge=true" in caught.value.fix


def test_dropout_of_adapters_does_not_depend_on_micro_batches(bases: dict[str, Path], tmp_path: Path) -> None:
    logged: list[list[dict[str, float]]] = []
    for micro_batch in (8, 3, 1):
        changes = {
            "training.micro_batch": micro_batch, "strategy.dropout": 0.3, "data.validation_share": 0.0,
            "data.test_share": 0.0, "training.learning_rate": 1e-2,
        }  # fmt: skip
        recipe = recipe_of("text_classification", bases["bert"], **changes)
        run = finetune(recipe, rows_of("text_classification", 40), tmp_path / str(micro_batch))
        assert run.record["execution"]["path"] == "flat"
        logged.append([json.loads(line) for line in run.directory.steps.read_text().splitlines()])
    for other in logged[1:]:
        for one, two in zip(logged[0], other, strict=True):
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
            assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-5)


@pytest.mark.parametrize(("name", "family"), [("text_classification", "bert"), ("text_generation", "bart")])
def test_a_crashed_run_resumes_bit_for_bit(
    name: str, family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_of(name, 30)
    changes = {"strategy.dropout": 0.2, "training.checkpoint_steps": 1, "training.micro_batch": 3}
    recipe = recipe_of(name, bases[family], **changes)
    whole = finetune(recipe, rows, tmp_path / "whole")
    with pytest.raises(SystemError):
        finetune(recipe, rows, tmp_path / "crashed", StopAt(2))
    resumed = resume(tmp_path / "crashed", rows)
    one, other = (load_file(run.directory.model / "adapter_model.safetensors") for run in (whole, resumed))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
