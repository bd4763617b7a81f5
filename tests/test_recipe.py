from __future__ import annotations

import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from pydantic import BaseModel, ValidationError

from graftlm.composition import options
from graftlm.config import Config
from graftlm.errors import ConfigurationError
from graftlm.pretraining_recipe import load_pretraining
from graftlm.recipe import (
    DEFAULT_MEMBERS,
    PLUG_IN_SECTIONS,
    Recipe,
    load_outline,
    load_recipe,
)
from graftlm.settings import Settings, read_yaml


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("recipe.yaml")


def refusal(*words: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(file, words)
    return str(caught.value)


def leaves(values: object) -> int:
    return sum(map(leaves, values.values())) if isinstance(values, dict) and values else 1


def test_defaults_are_complete_and_within_sixty_fields() -> None:
    recipe = load_recipe()
    assert leaves(recipe.dump()) <= 60
    assert set(recipe.dump()) == set(Recipe.model_fields)
    for section, member in DEFAULT_MEMBERS.items():
        assert recipe.dump()[section]["name"] == member


def test_a_dump_loads_back_as_the_same_recipe(file: Path) -> None:
    words = [
        "seed=7", "data.columns={text: no, label: '1e5'}", "data.path=2024-05-01", "training.learning_rate=2e-5",
        "training.epochs=0.5", "objective.class_weights={yes: 2, 1: 1.5}", "strategy.layer_decay=0.9", 'base="null"',
    ]  # fmt: skip
    recipe = load_recipe(None, words)
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(file)
    assert again == recipe
    assert again.dump() == recipe.dump()
    assert recipe.data.columns == {"text": "no", "label": "1e5"}
    assert recipe.objective.class_weights == {"yes": 2.0, "1": 1.5}  # pyright: ignore


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_any_column_name_survives_the_file(columns: dict[str, str]) -> None:
    recipe = load_recipe(None, {"data.columns": columns})
    assert load_recipe(None, (), Settings(yaml.safe_load(recipe.to_yaml()))) == recipe


def test_a_recipe_is_frozen() -> None:
    recipe = load_recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # pyright: ignore
    with pytest.raises(ValidationError, match="frozen"):
        recipe.training.epochs = 3  # pyright: ignore


def test_a_trapezoid_has_room_to_rise_and_fall() -> None:
    said = refusal("training.schedule=trapezoid", "training.warmup_share=0.4", "training.decay_share=0.7")
    assert "training.warmup_share (0.4)" in said and "training.decay_share (0.7)" in said
    recipe = load_recipe(None, ["training.schedule=trapezoid", "training.warmup_share=0.8"])
    assert recipe.training.decay_share == 0.2
    # Other shapes do not fall so.
    load_recipe(None, ["training.warmup_share=0.9"])


def test_changed_validates_and_leaves_the_original_alone() -> None:
    recipe = load_recipe(None, ["strategy.layer_decay=0.8"])
    changed = recipe.changed({"training.epochs": 2.0, "strategy.name": "full"})
    assert (changed.training.epochs, changed.strategy.layer_decay) == (2.0, 0.8)  # pyright: ignore
    assert recipe.training.epochs is None
    with pytest.raises(ConfigurationError, match=r"training.epochs"):
        recipe.changed({"training.epochs": -1})


def classes() -> list[type[BaseModel]]:
    members = [catalog.get(name) for catalog in PLUG_IN_SECTIONS.values() for name in catalog.names()]
    return [Recipe, *members]


def test_every_option_is_explained_in_a_sentence() -> None:
    for model in classes():
        for key, info, text in options(model, ""):
            assert text.endswith("."), f"{model.__name__}.{key} has no help"
            assert len(text) > 15, key
            assert info.annotation is not None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sed=3", "sed: unknown option. Did you mean 'seed'?"),
        ("trainng.epochs=3", "trainng: unknown option. Did you mean 'training'?"),
        ("training.epoch=3", "training.epoch: unknown option. Did you mean 'training.epochs'?"),
        ("epochs=3", "epochs: unknown option. Did you mean 'training.epochs'?"),
        ("task.max_length_token=3", "task.max_length_token: unknown option. Did you mean 'task.max_length_tokens'?"),
        ("objective.label_smothing=0", "label_smothing: unknown option. Did you mean 'objective.label_smoothing'?"),
        ("strategy.layerdecay=1", "strategy.layerdecay: unknown option. Did you mean 'strategy.layer_decay'?"),
        ("num_train_epochs=3", "num_train_epochs: unknown option. Here it is training.epochs."),
        ("training.lr=3", "training.lr: unknown option. Here it is training.learning_rate."),
        ("per_device_train_batch_size=3", "unknown option. Here it is training.micro_batch."),
        ("data.max_length=3", "data.max_length: unknown option. Here it is task.max_length_tokens."),
        ("training.optimizer=adafactor", "training.optimizer: unknown option. Here it is training.optimizer for gr"),
        ("run_dir=x", "run_dir: unknown option. Here it is the option --run-dir (in Python run_directory=)."),
        ("zzzz=3", "zzzz: unknown option.\n"),
        ("task.name=text_clasification", "no task is called 'text_clasification'. Did you mean 'text_classification'?"),
        ("strategy=ful", "strategy: no strategy is called 'ful'. Did you mean 'full'? Known: full"),
        ("objective.name=mse", "objective: no objective is called 'mse'. Known: "),
        ("strategy=", "strategy: a section with a name is needed; known names: full"),
        ("training.learning_rate=fast", "training.learning_rate: Input should be a valid number, got 'fast'"),
        ("training.learning_rate=-1", "training.learning_rate: must be more than 0, got -1"),
        ("training.batch_size=2.5", "training.batch_size: Input should be a valid integer, got 2.5"),
        ("seed=true", "seed: Input should be a valid integer, got True"),
        ("training.keep=first", "training.keep: Input should be 'best' or 'last', got 'first'"),
        ("data.label_columns=a,b", "data.label_columns: a list is wanted here, write '[a,b]', got 'a,b'"),
        ("task.primary_metric=zzz", "weighted, got 'zzz'"),
        ("task.primary_metric=acuracy", "Did you mean 'accuracy'? Got 'acuracy'"),
        ("data.columns.text=2024", "data.columns.text: a text is wanted here, put the number in quotes, got 2024"),
        ("training=3", "training: Input should be a valid dictionary or instance of TrainingOptions, got 3"),
        ("training.learning_rate=.inf", "training.learning_rate: Input should be a finite number, got inf"),
        ("training.micro_batch=32", "training.micro_batch (32) cannot exceed training.batch_size (16)"),
        ("data.test_share=0.85", "data.validation_share + data.test_share must stay below 0.9"),
        ("task.primary_metric=acc", "task.primary_metric: must be one of accuracy, f1_macro"),
        ("format_version=2", "format_version: Input should be 1, got 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_place_and_remedy(word: str, message: str) -> None:
    answer = refusal(word)
    assert message in answer
    assert not answer.startswith("override")
    assert re.search(r"What to do: `graft options[a-z._ ]*` lists the keys with type and default", answer)


@pytest.mark.parametrize(
    ("words", "section"),
    [
        (["zzzz=3"], ""), (["seed=x"], ""), (["training.epoch=3"], " training"), (["training=3"], " training"),
        (["task.max_len=3"], " task.text_classification"), (["task.name=x"], " task"), (["seed=x", "training=3"], ""),
        (["strategy.name=lora", "strategy.rnk=3"], " strategy.lora"),
    ],
)  # fmt: skip
def test_the_remedy_names_the_section_to_list(words: list[str], section: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(None, words)
    assert caught.value.fix == f"`graft options{section}` lists the keys with type and default"
    with pytest.raises(ConfigurationError) as caught:
        load_pretraining(None, ["corpus.path=x", "training.epoch=3"])
    assert "`graft options --pretraining training`" in caught.value.fix


def test_a_file_is_refused_with_the_line_of_each_mistake(file: Path) -> None:
    file.write_text("seed: x\ntraining:\n  epochs: 3\n  leaning_rate: 1e-4\nstrategy:\n  layer_decay: 2\n")
    answer = refusal(file=file)
    assert "recipe.yaml:1: seed: Input should be a valid integer, got 'x'" in answer
    assert (
        "recipe.yaml:4: training.leaning_rate: unknown option. Did you mean 'training.learning_rate'?"
        in answer
    )
    file.write_text("strategy:\n  layer_decay: 2\n")
    assert "recipe.yaml:2: strategy.layer_decay: must be 1 or less, got 2" in refusal(file=file)


def test_overrides_are_words_or_pairs() -> None:
    assert load_recipe(None, ["seed=3", ("data.path", "a=b.csv")]).data.path == "a=b.csv"
    assert load_recipe(None, [("data.path", "😀.csv")]).data.path == "😀.csv"
    with pytest.raises(ConfigurationError, match=r"an override is a text such as training.epochs=3, got 7"):
        load_recipe(None, [7])  # pyright: ignore


def test_the_callers_dictionary_is_not_changed() -> None:
    given_section = {"label_smoothing": 0.1}
    assert load_recipe(None, {"objective": given_section}).objective.label_smoothing == 0.1  # pyright: ignore
    assert given_section == {"label_smoothing": 0.1}


def test_an_outline_knows_the_data_and_names_only() -> None:
    outline = load_outline(None, ["strategy.layer_decay=17", "data.path=x.csv", "task.max_length_tokens=9"])
    assert outline.data.path == "x.csv"
    assert outline.task.max_length_tokens == 9  # pyright: ignore
    assert type(outline.strategy) is Config
    with pytest.raises(ConfigurationError, match="no strategy is called 'x'"):
        load_outline(None, ["strategy.name=x"])


def test_shorthand_for_a_member_in_a_file(file: Path) -> None:
    file.write_text("strategy: full\nobjective:\n  label_smoothing: 0.1\n")
    assert load_recipe(file).dump()["strategy"] == {"name": "full", "layer_decay": 1.0}
    assert load_recipe(file).dump()["objective"]["name"] == "cross_entropy"
    assert read_yaml(file).values["strategy"] == "full"
    assert load_recipe(file, ["strategy.layer_decay=0.5"]).strategy.layer_decay == 0.5  # pyright: ignore


def test_a_recipe_of_before_batches_were_measured_in_tokens_still_loads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = load_recipe().dump()
    del old["evaluation"]["batch_tokens"]
    old["evaluation"]["batch_size"] = 32
    assert load_recipe(start=Settings(old)) == load_recipe()
    assert "evaluation.batch_tokens" in caplog.text
