"""What precedes a training: dropout by any name, padding on the side that is read, the rate of a base model."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tests.rows import classified_rows
from tests.tiny import FAMILIES, tiny_base, tiny_tokenizer
from torch import nn

from graftlm import tokenising
from graftlm.data.dataset import Split
from graftlm.models.base_model import load_tokenizer
from graftlm.models.locating import locate
from graftlm.preparation import build_model, dropout_options, open_encoder, prepare, resolve_learning_rate
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.run_identity import describe_changes
from graftlm.tokenising import encoded
from graftlm.workflows.finetune import finetune


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_dropout_is_set_everywhere(tmp_path: Path, family: str, rate: float) -> None:
    base = tiny_base(tmp_path / "base", family=family)
    recipe = load_recipe(overrides={"base": str(base), "training.dropout": rate})
    model = build_model(recipe, prepare(recipe, classified_rows(40), Silent()), Silent())
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert rates == {rate}


@pytest.mark.parametrize("name", ["Albert", "T5", "Funnel", "XLNet", "RemBert", "Bart"])
def test_every_familys_word_for_dropout_is_known(name: str) -> None:
    config = getattr(transformers, f"{name}Config")().to_dict()
    changed = dropout_options(config, 0.0)
    left = {key for key, value in config.items() if "drop" in key and isinstance(value, float) and value > 0}
    assert left <= set(changed)
    assert not [key for key in dropout_options(config, 0.2) if "layerdrop" in key]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_predicted_alone_as_among_longer_ones(tmp_path: Path, family: str) -> None:
    """Also where the folder asks for padding on the left, which would move the position that is read."""
    base = tiny_base(tmp_path / "base", family=family)
    config = base / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"padding_side": "left", ', 1))
    assert load_tokenizer(locate(str(base))).padding_side == "right"
    options = {"base": str(base), "training.epochs": 1, "evaluation.proof": "none", "training.device": "cpu"}
    predictor = finetune(load_recipe(overrides=options), classified_rows(40), tmp_path / "run").predictor(
        "cpu"
    )
    alone = predictor(["the refund"])[0].scores
    among = predictor(["the refund", "the parcel is late again and nobody in the team has an answer for me"])[
        0
    ].scores
    np.testing.assert_allclose(list(alone.values()), list(among.values()), atol=1e-6)


class Listening(Silent):
    """Keep what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.advanced: list[tuple[int, int]] = []

    def advance(self, done: int, total: int, **figures: Any) -> None:
        assert figures["rows_per_second"] > 0
        self.advanced.append((done, total))

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def test_names_of_special_tokens_are_counted_aloud(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    rows = classified_rows(40)
    rows[7]["text"] = f"{rows[7]['text']} [SEP] the end"
    listening = Listening()
    recipe = load_recipe(overrides={"base": str(base), "data.test_share": 0.0, "data.validation_share": 0.0})
    prepared = prepare(recipe, rows, listening)
    (said,) = [sentence for sentence in listening.said if "special token" in sentence]
    assert said.startswith("1 of 40 texts of train")
    assert said.endswith(prepared.dataset.splits["train"].row_ids[7])
    ids = prepared.examples["train"].inputs["input_ids"][7]
    assert ids.count(prepared.encoder.tokenizer.sep_token_id) == 1


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, [(16, 40), (28, 40), (32, 40), (40, 40)]), (1e9, [])])
def test_tokenising_shows_how_far_it_is_where_it_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, shown: list[tuple[int, int]]
) -> None:
    base, rows, listening = tiny_base(tmp_path / "base"), classified_rows(40), Listening()
    monkeypatch.setattr(tokenising, "PORTION_ROWS", 16)
    monkeypatch.setattr(tokenising, "WATCHED_SECONDS", seconds)
    data = {"train": rows[:28], "validation": rows[28:32], "test": rows[32:]}
    prepare(load_recipe(overrides={"base": str(base)}), data, listening)
    assert listening.advanced == shown


def test_only_a_portion_of_rows_is_held_beside_the_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tokenizer says takes many times the memory of the ids; more rows must not hold more of it."""
    recipe = load_recipe(
        overrides={"base": str(tiny_base(tmp_path / "base")), "task.name": "question_answering"}
    )
    encoder, task = open_encoder(recipe)[2], recipe.task
    words = "the parcel is late again and nobody in the team has an answer " * 2

    def beside(rows: int) -> int:
        """Return bytes that were held at most, less what the features take."""
        texts = [f"{words} {row}" for row in range(rows)]
        columns: dict[str, list[object]] = {"question": ["who"] * rows, "context": [*texts]}
        split = Split("train", columns, [str(row) for row in range(rows)])
        tracemalloc.start()
        features = encoded(task, split, encoder, lambda rows: None)
        kept, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(features) >= rows
        return most - kept

    monkeypatch.setattr(tokenising, "PORTION_ROWS", 100)
    beside(10)  # what is made once
    in_portions = beside(800)
    monkeypatch.setattr(tokenising, "PORTION_ROWS", 800)
    assert in_portions < 0.5 * beside(800)


def _of_family(family: str, vocabulary: int) -> transformers.PreTrainedConfig:
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": vocabulary, "bos_token_id": 0,
        "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    if family == "llama":
        return transformers.LlamaConfig(**sizes)
    seeing = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    words = {**sizes, "layer_types": ["full_attention", "full_attention"]}
    return transformers.Qwen3_5Config(
        text_config=words, vision_config={**seeing, "num_position_embeddings": 4}
    )


@pytest.mark.parametrize("family", ["llama", "qwen3_5"])
def test_a_family_without_a_pad_token_pads_where_its_head_looks(tmp_path: Path, family: str) -> None:
    """One stores none; the other has no such setting but in its text part. Both heads read the last real token."""
    base = tmp_path / "base"
    config = _of_family(family, len(tiny_tokenizer(base, family="gpt2")))
    assert getattr(config, "pad_token_id", None) is None
    transformers.AutoModel.from_config(config).save_pretrained(base)
    options = {"base": str(base), "training.epochs": 1, "evaluation.proof": "none", "training.device": "cpu"}
    run = finetune(load_recipe(overrides=options), classified_rows(40), tmp_path / "run")
    predictor = run.predictor("cpu")
    assert predictor.model.config.get_text_config().pad_token_id == predictor.encoder.padding["input_ids"]
    texts = ["the refund", "the parcel is late again and nobody in the team has an answer for me"]
    among, alone = predictor(texts)[0].scores, predictor(texts[:1])[0].scores
    np.testing.assert_allclose(list(alone.values()), list(among.values()), atol=1e-6)


def test_a_small_base_of_our_own_has_a_rate_of_its_own_for_all_of_its_weights() -> None:
    def rate(**given: object) -> float:
        return resolve_learning_rate(load_recipe(overrides={"data.path": "rows.csv", **given}))

    assert rate() == 1e-4
    assert rate(base="bundled:english-encoder") == 1e-3
    assert rate(base="bundled:english-encoder", **{"strategy.name": "lora"}) == 5e-4
    assert rate(base="bundled:english-encoder", **{"training.learning_rate": 2e-5}) == 2e-5
    assert rate(base="bundled:unheard-of") == 1e-4  # refused where it is loaded


def test_a_run_from_before_bases_had_rates_is_not_continued_at_another() -> None:
    recipe = load_recipe(overrides={"base": "bundled:english-encoder", "data.path": "rows.csv"})
    now: dict[str, Any] = {
        "recipe": recipe.dump(), "data": {}, "labels": [], "base": "", "tokens": {}, "speaking_token": "first",
        "learning_rate": resolve_learning_rate(recipe),
    }  # fmt: skip
    before = {key: value for key, value in now.items() if key != "learning_rate"}
    (change,) = describe_changes(before, now, extending=False)
    assert change.startswith("training.learning_rate: was 0.0001, now 0.001; ")
    named = {**recipe.dump(), "training": {**recipe.training.dump(), "learning_rate": 1e-4}}
    assert describe_changes(before, {**now, "recipe": named, "learning_rate": 1e-4}, extending=False) == []
    assert describe_changes(now, now, extending=False) == []
