from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.rows import classified_rows, write_csv

from graftlm.catalog import Catalog
from graftlm.pretraining_recipe import load_pretraining
from graftlm.recipe import load_recipe


def test_check_of_clean_rows(place: Path, graft) -> None:
    write_csv(place / "data.csv", classified_rows(400))
    outcome = graft("check", "data.csv")
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1].startswith("0 errors, 0 warnings, ")
    found = graft("check", "data.csv", "--json").json()
    assert found["rows"] == {"train": 288, "validation": 32, "test": 80}
    assert {finding["severity"] for finding in found["findings"]} <= {"note"}
    assert any("its name says so" in sentence for sentence in found["decisions"])


def test_check_of_doubtful_rows(place: Path, graft) -> None:
    rows = classified_rows(200)
    write_csv(
        place / "data.csv",
        [*rows, rows[0], {**rows[1], "label": rows[2]["label"]}, {"text": " ", "label": "joy"}],
    )
    outcome = graft("check", "data.csv")
    assert outcome.code == 5
    assert "error: train: 1 row with an empty text" in outcome.out
    assert "data.csv:204" in outcome.out
    assert "what to do: give these rows a text, or set data.drop_empty_text=true" in outcome.out
    found = graft("check", "data.csv", "--json")
    assert found.code == 5
    assert {"empty_text"} < {finding["kind"] for finding in found.json()["findings"]}


def test_check_of_what_cannot_be_read(place: Path, graft) -> None:
    (place / "data.csv").write_text("text,label\na,b\nc\n")
    outcome = graft("check", "data.csv", "--json")
    (finding,) = outcome.json()["findings"]
    assert (outcome.code, outcome.err) == (2, "")
    assert (finding["severity"], finding["kind"], finding["places"]) == ("error", "unreadable", ["data.csv"])
    assert "data.csv:3" in finding["message"]


def test_check_of_a_recipe(place: Path, graft) -> None:
    write_csv(place / "data.csv", classified_rows(40))
    Path("recipe.yaml").write_text("data: {path: data.csv, columns: {text: txet}}\n")
    outcome = graft("check", "recipe.yaml")
    assert outcome.code == 2
    assert "Did you mean 'text'?" in outcome.err
    assert graft("check", "recipe.yaml", "data.columns.text=text").code in (0, 5)


def test_a_new_recipe_loads_back_with_its_columns(place: Path, graft) -> None:
    write_csv(place / "my: data.csv", [{"note": r["text"], "2024": r["label"]} for r in classified_rows(40)])
    printed = graft("new", "my: data.csv", "training.learning_rate=2e-5")
    assert printed.code == 0, printed.err
    written = graft("new", "my: data.csv", "training.learning_rate=2e-5", "--output", "recipe.yaml")
    assert written.code == 0
    assert "graft finetune recipe.yaml" in written.out
    assert Path("recipe.yaml").read_text() == printed.out
    recipe = load_recipe(Path("recipe.yaml"))
    assert recipe.data.columns == {"text": "note", "label": "2024"}
    assert recipe.training.learning_rate == 2e-5
    assert recipe.changed({"data.columns": {}}) == load_recipe(
        None, [("data.path", "my: data.csv"), "training.learning_rate=2e-5"]
    )
    # Every key has its comment.
    lines = printed.out.splitlines()
    keys = [
        at for at, line in enumerate(lines) if ": " in line and not line.lstrip().startswith(("#", "name:"))
    ]
    assert all(lines[at - 1].lstrip().startswith("# ") for at in keys)
    assert len(keys) > 30


@pytest.mark.parametrize(
    "name", ["a\nb", "a: b #c", "- x", "no", "1e5", "'", '"', "{x", "\u2028", "😀", "x" * 300, "\\"]
)
def test_a_new_recipe_survives_odd_names(name: str, graft) -> None:
    printed = graft("new", f"data.columns={{label: {__import__('json').dumps(name, ensure_ascii=False)}}}")
    assert printed.code == 0, printed.err
    assert yaml.safe_load(printed.out) == load_recipe(None, {"data.columns": {"label": name}}).dump()


def test_new_never_overwrites(place: Path, graft) -> None:
    Path("recipe.yaml").write_text("precious")
    outcome = graft("new", "--output", "recipe.yaml")
    assert outcome.code == 2
    assert "recipe.yaml: this file exists already" in outcome.err
    assert Path("recipe.yaml").read_text() == "precious"
    nowhere = graft("new", "--output", "nowhere/recipe.yaml")
    assert nowhere.code == 3
    assert "nowhere/recipe.yaml: cannot write the recipe" in nowhere.err


def test_options_list_every_key_of_a_recipe(graft) -> None:
    shown = [line.split("  (")[0] for line in graft("options").out.splitlines() if not line.startswith(" ")]
    for section in ("task", "objective", "strategy"):
        shown += [
            line.split("  (")[0]
            for line in graft("options", section).out.splitlines()
            if not line.startswith(" ")
        ]

    def keys(values: dict[str, object], prefix: str) -> set[str]:
        found: set[str] = set()
        for key, value in values.items():
            nested = isinstance(value, dict) and key != "columns"
            found |= keys(value, f"{prefix}{key}.") if nested else {prefix + key}  # type: ignore
        return found

    sections = {"task": "tasks", "strategy": "strategies"}
    every = [
        load_recipe(overrides={f"{section}.name": name}).dump()
        for section, kind in sections.items()
        for name in Catalog(kind).names()
    ]
    assert set(shown) == set().union(*(keys(values, "") for values in every))


@pytest.mark.parametrize(
    ("prefix", "first"),
    [
        ("training.learning_rate", "training.learning_rate  (float or null, default null)"),
        ("training.precision", "training.precision  (auto or fp32 or bf16, default auto)"),
        ("data.columns", "data.columns  (mapping of str to str, default {})"),
        ("strategy.full", "strategy.layer_decay  (float, default 1.0)"),
        ("strategy.layer", "strategy.layer_decay  (float, default 1.0)"),
        ("objective.cross_entropy.class", "objective.class_weights  (none or balanced or mapping of str to float, "),
        ("task", "task.name  (one of the names, default text_classification)"),
    ],
)  # fmt: skip
def test_options_by_prefix(prefix: str, first: str, graft) -> None:
    outcome = graft("options", prefix)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].startswith(first)


def test_a_key_of_several_members_is_listed_once_and_said_to_be_there(graft) -> None:
    assert "`graft options task` lists the keys of each." in " ".join(graft("options").out.split())
    lines = graft("options", "task.max_length").out.splitlines()
    assert lines[0].startswith("task.max_length_tokens  (int or null, default null)")
    assert [line for line in lines if line.startswith("task.")] == lines[:1]
    text = " ".join(" ".join(lines[1:]).split())
    assert (
        text.startswith("(dialogue) Tokens") and "(multi_label_classification, text_classification, " in text
    )
    assert (
        graft("options", "task.text_classification.max_length")
        .out.splitlines()[1]
        .strip()
        .startswith("(text_cl")
    )


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("trainning.epochs", "training.epochs"),
        ("strategy.layr_decay", "strategy.layer_decay"),
        ("sed", "seed"),
    ],
)
def test_options_with_a_typo(prefix: str, hint: str, graft) -> None:
    outcome = graft("options", prefix)
    assert outcome.code == 2
    assert f"no option starts with {prefix!r}. Did you mean {hint!r}?" in outcome.err


def test_a_recipe_and_the_keys_of_a_pretraining(place: Path, graft) -> None:
    written = graft("new", "novels", "base=gpt2-mini", "--pretraining", "--output", "recipe.yaml")
    assert written.code == 0, written.err
    assert "graft pretrain recipe.yaml" in written.out
    recipe = load_pretraining(Path("recipe.yaml"))
    expected = {"corpus.path": "novels", "base": "gpt2-mini"}
    assert recipe == load_pretraining(None, expected)
    assert recipe.objective.name == "causal_language_modelling"  # pyright: ignore[reportAttributeAccessIssue]
    shown = graft("options", "--pretraining", "objective.masked").out
    assert "objective.mask_share  (float" in shown and "(masked_language_modelling)" in shown
    assert "corpus.path" in graft("options", "--pretraining").out
    missing = graft("options", "--pretraining", "training.batch_size")
    assert missing.code == 2 and "graft options --pretraining" in missing.err
