from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import example, given

from graftlm.composition import options
from graftlm.errors import ConfigurationError
from graftlm.pretraining_recipe import PretrainingRecipe
from graftlm.recipe import Recipe
from graftlm.settings import (
    FOREIGN_KEYS,
    Settings,
    apply_overrides,
    dump_yaml,
    parse_override,
    read_yaml,
)

SECTIONS = {"strategy": "full"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("recipe.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-5", 2e-5), ("1E3", 1000.0), ("-1.5", -1.5), (".5", 0.5), ("0", 0), ("-3", -3), ("1_000", 1000),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("true", True), ("False", False),
        ("007", "007"), ("0x1F", "0x1F"), ("0o17", "0o17"), ("1:30", "1:30"), ("2024-05-01", "2024-05-01"),
        ("null", None), ("~", None), ("", None), ("None", "None"), ("a b", "a b"), ("NA", "NA"), ("nan", "nan"),
    ],
)  # fmt: skip
def test_scalars_in_files_and_overrides(file: Path, written: str, value: object) -> None:
    file.write_text(f"key: {written}\nlist: [{written or '~'}]\n")
    settings = read_yaml(file)
    _, override = parse_override(f"key={written}")
    for found in (settings.values["key"], settings.values["list"][0], override):
        assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a.b=[1, no]", [1, "no"]), ('a.b="7"', "7"), ("a.b='7'", "7"), ("a.b={1: 2.5, no: 1}", {"1": 2.5, "no": 1}),
        ("a.b=x=y", "x=y"), ("a.b=|", "|"), ("a.b=- x", "- x"), ("a.b=#no", "#no"), ("a.b=a: b", "a: b"),
    ],
)  # fmt: skip
def test_override_values(word: str, value: object) -> None:
    assert parse_override(word) == (("a", "b"), value)


@pytest.mark.parametrize("word", ["training.epochs", "=3", " =3", "--epochs"])
def test_a_word_without_key_or_value_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an override") as caught:
        parse_override(word)
    assert "training.epochs=3" in caught.value.fix


@pytest.mark.parametrize("text", ["[1, 2", "{a: 1", '"open', "{a: 1, a: 2}", "[" * 5000])
def test_a_broken_override_value_names_its_key(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"training\.x|key training\.x\.a stands here twice"
    ) as caught:
        parse_override(f"training.x={text}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "recipe.yaml:3: the key a stands here twice"),
        ("s:\n  a: 1\n  a: 2\n", "recipe.yaml:3: the key s.a stands here twice"),
        ("a: 1\nb: [1, 2\nc: 3\n", "recipe.yaml:3: this is not valid YAML:"),
        ("a: 1\n\tb: 2\n", "recipe.yaml:2: this is not valid YAML:"),
        ("- a\n", "recipe.yaml:1: a recipe is a mapping of keys to values"),
        ("? [a]\n: 1\n", "recipe.yaml:1: a key must be a plain word"),
        ("a: 1\nb: !!python/object:os.system x\n", "recipe.yaml:2: b: "),
        ("a: 1\n---\nb: 2\n", "recipe.yaml:2: this is not valid YAML:"),
        ("a: &x\n  b: *x\n", "recipe.yaml: a value contains itself"),
        ("a: \x00\n", "recipe.yaml: this is not valid YAML:"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(message)


def test_a_missing_file_names_the_nearest(file: Path) -> None:
    Path("recipes.yaml").touch()
    with pytest.raises(
        ConfigurationError, match=r"there is no recipe 'recipe.yaml'. Did you mean 'recipes.yaml'\?"
    ):
        read_yaml(file)
    with pytest.raises(ConfigurationError, match="there is no recipe"):
        read_yaml(Path("nowhere/recipe.yaml"))


def test_unreadable_files_are_named(file: Path) -> None:
    file.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigurationError, match=r"^recipe.yaml: the recipe cannot be read: .*utf-8"):
        read_yaml(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_yaml(Path())


def test_empty_file_and_byte_order_mark(file: Path) -> None:
    file.write_text("# nothing\n")
    assert read_yaml(file).values == {}
    file.write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert read_yaml(file).values == {"seed": 3}


def test_places_are_kept_and_the_longest_prefix_answers(file: Path) -> None:
    file.write_text("seed: 1\ntraining:\n  epochs: 2\n")
    settings = read_yaml(file)
    assert settings.where(("training", "epochs")) == "recipe.yaml:3"
    assert settings.where(("training", "unknown")) == "recipe.yaml:2"
    assert settings.where(("data",)) == ""
    assert apply_overrides(settings, [(("seed",), 4)], {}).where(("seed",)) == "override"


def test_overrides_leave_the_settings_and_the_callers_values_alone() -> None:
    before, given_value = Settings({"a": {"b": 1}}), {"name": "other"}
    after = apply_overrides(before, [(("a", "b"), 2), (("c",), given_value), (("c", "d"), 1)], {})
    assert before.values == {"a": {"b": 1}}
    assert after.values == {"a": {"b": 2}, "c": {"name": "other", "d": 1}}
    assert given_value == {"name": "other"}


@pytest.mark.parametrize(
    "words", [["strategy.name=lora", "strategy.rank=8"], ["strategy.rank=8", "strategy=lora"]]
)
def test_another_member_replaces_the_section_wherever_the_word_stands(words: list[str]) -> None:
    settings = Settings({"strategy": {"layer_decay": 0.9}})
    after = apply_overrides(settings, map(parse_override, words), SECTIONS)
    assert after.values == {"strategy": {"name": "lora", "rank": 8}}


@pytest.mark.parametrize("section", [{"layer_decay": 0.9}, {"name": "full", "layer_decay": 0.9}])
def test_naming_the_same_member_keeps_its_options(section: dict[str, object]) -> None:
    after = apply_overrides(Settings({"strategy": section}), [parse_override("strategy.name=full")], SECTIONS)
    assert after.values == {"strategy": {"name": "full", "layer_decay": 0.9}}


def test_a_key_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="seed is a value, not a section"):
        apply_overrides(Settings({"seed": 1}), [(("seed", "x"), 1)], SECTIONS)


def test_foreign_words_lead_to_keys_that_exist() -> None:
    known = {key for kind in (Recipe, PretrainingRecipe) for key, _, _ in options(kind, "")} | {
        "objective.label_smoothing", "task.max_length_tokens", "task.primary_metric",
    }  # fmt: skip
    for word, ours in FOREIGN_KEYS.items():
        named = [part for part in ours.split() if "." in part or part == "base"]
        assert ours.startswith("the option --run-dir ") or (named and set(named) <= known), word


_TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"[-+0-9._:eEinfaox~]{1,8}")


@example({"number": "1e5", "word": "no", "2": "\u2028"})
@given(
    st.dictionaries(_TEXTS, _TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False))
)
def test_what_is_dumped_is_read_back(values: dict[str, object]) -> None:
    # Keys are texts for us, whatever they look like; PyYAML's own reader must agree on every value, too.
    text = dump_yaml({"section": values}, width=60)
    folder = Path(__import__("tempfile").mkdtemp())
    try:
        (folder / "r.yaml").write_bytes(text.encode())
        assert read_yaml(folder / "r.yaml").values == {"section": values}
        assert yaml.safe_load(text) == {"section": values}
    finally:
        (folder / "r.yaml").unlink()
        folder.rmdir()
