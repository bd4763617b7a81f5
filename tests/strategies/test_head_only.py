"""A frozen body: it does not move, drops nothing, and is run once; the numbers are those of running it each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.strategies.test_contract import classifier
from tests.tasks.test_contract import CASES, options_of, rows_of
from tests.test_training_run import StopAt
from tests.tiny import FAMILIES, tiny_base

from graftlm import fine_tuning
from graftlm.recipe import load_recipe
from graftlm.strategies.head_only import HeadOnly
from graftlm.training.frozen import NotKept, set_training
from graftlm.training.optimisation import build_optimizer
from graftlm.workflows.finetune import finetune, resume

READERS = [(name, family) for name, family in CASES if family == "bert"]
MORE = [("text_classification", family) for family in FAMILIES if family != "bert"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        family: tiny_base(folder / family, family, dropout=0.2)
        for family in {*FAMILIES, *(family for _, family in CASES)}
    }


def recipe_of(name: str, base: Path, **changes: Any) -> Any:
    options = {
        "strategy.name": "head_only", "training.epochs": 3, "training.batch_size": 8, "evaluation.proof": "none",
        "evaluation.resamples": 100, "training.device": "cpu", **changes,
    }  # fmt: skip
    return load_recipe(None, options_of(name, base, **options))


def steps_of(run: Any) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.directory.steps.read_text().splitlines()]


def assert_close(one: Any, other: Any) -> None:
    for first, second in zip(steps_of(one), steps_of(other), strict=True):
        if "loss" in first:
            assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
            assert first["gradient_norm"] == pytest.approx(second["gradient_norm"], rel=1e-5)


def keep_nothing(*_: Any) -> None:
    raise NotKept("a test forbids it")


@pytest.mark.parametrize("execution", ["auto", "padded"])
@pytest.mark.parametrize(("name", "family"), [*READERS, *MORE])
def test_kept_features_give_the_losses_of_running_the_body(
    name: str,
    family: str,
    execution: str,
    bases: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[Any] = []
    keep = fine_tuning.keep_features

    def counting(*given: Any) -> Any:
        called.append(keep(*given))
        return called[-1]

    recipe = recipe_of(name, bases[family], **{"training.execution": execution})
    monkeypatch.setattr(fine_tuning, "keep_features", counting)
    kept = finetune(recipe, rows_of(name, 30), tmp_path / "kept")
    assert len(called) == 1 and not list((tmp_path / "kept").glob("tmp*"))
    monkeypatch.setattr(fine_tuning, "keep_features", keep_nothing)
    assert_close(kept, finetune(recipe, rows_of(name, 30), tmp_path / "run"))


def test_only_first_tokens_are_kept_where_the_head_reads_no_others(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    keep = fine_tuning.keep_features
    monkeypatch.setattr(fine_tuning, "keep_features", lambda *given: kept.append(keep(*given)) or kept[-1])
    finetune(
        recipe_of("text_classification", bases["bert"]), rows_of("text_classification", 30), tmp_path / "one"
    )
    finetune(
        recipe_of("token_classification", bases["bert"]),
        rows_of("token_classification", 30),
        tmp_path / "two",
    )
    firsts, tokens = (each._values.shape[0] for each in kept)
    assert firsts < 30 < tokens


@pytest.mark.parametrize(("name", "family"), CASES)
def test_nothing_but_the_head_moves(name: str, family: str, bases: dict[str, Path], tmp_path: Path) -> None:
    run = finetune(recipe_of(name, bases[family]), rows_of(name, 30), tmp_path / "run")
    before = load_file(bases[family] / "model.safetensors")
    after = load_file(run.directory.model / "model.safetensors")
    for key, tensor in before.items():
        same = [name for name in after if name.partition(".")[2] == key or name == key]
        shared = name == "text_generation" and ("shared" in key or "wte" in key)  # with the vocabulary
        assert len(same) == 1 or shared or "pooler" in key  # some heads have no use for it
        assert "pooler" in key or shared or torch.equal(after[same[0]], tensor), key
    assert run.record["steps"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_body_drops_nothing(family: str) -> None:
    model = classifier(family)
    build_optimizer(model, HeadOnly().parameter_groups(model), 1e-3, 0.0)
    set_training(model)
    assert model.training and not any(module.training for module in model.base_model.modules())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    set_training(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("name", "family"),
    [("text_classification", "bert"), ("word_tagging", "bert"), ("text_generation", "gpt2")],
)
def test_a_crashed_run_resumes_bit_for_bit(
    name: str, family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_of(name, bases[family], **{"training.checkpoint_steps": 1})
    rows = rows_of(name, 30)
    whole = finetune(recipe, rows, tmp_path / "whole")
    for step in (2, whole.record["steps"] - 1):
        path = tmp_path / str(step)
        with pytest.raises(SystemError):
            finetune(recipe, rows, path, StopAt(step))
        resumed = resume(path, rows)
        one, other = (load_file(run.directory.model / "model.safetensors") for run in (whole, resumed))
        assert all(torch.equal(one[key], other[key]) for key in one)
