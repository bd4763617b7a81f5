from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from graftlm import catalog
from graftlm.catalog import Catalog, camel_case
from graftlm.config import Config
from graftlm.errors import ConfigurationError
from graftlm.recipe import load_recipe

# What the project ships. A line here changes only when a file is added to the catalog on purpose.
CONTENTS = {
    "data.formats": ["conll", "conllu", "csv", "json_lines", "parquet", "squad", "tsv"],
    "metrics": [
        "accuracy",
        "answer_f1",
        "bleu",
        "chrf",
        "cut_share",
        "distinct",
        "empty_share",
        "exact_match",
        "f1",
        "length_ratio",
        "matthews_correlation",
        "mean_average_precision",
        "mean_squared_error",
        "pearson",
        "perplexity",
        "precision",
        "recall",
        "rouge",
        "spearman",
        "subset_accuracy",
    ],
    "objectives": ["answer_span", "binary_cross_entropy", "cross_entropy", "mean_squared_error"],
    "strategies": ["full", "head_only", "lora"],
    "tasks": [
        "dialogue",
        "multi_label_classification",
        "question_answering",
        "text_classification",
        "text_generation",
        "text_regression",
        "token_classification",
        "word_tagging",
    ],
}


@pytest.fixture
def fresh_catalog(monkeypatch: pytest.MonkeyPatch):
    """Forget what was found, before and after."""
    catalog._members.cache_clear()
    yield
    monkeypatch.undo()
    catalog._members.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plug_in_")]:
        del sys.modules[name]


def install(folder: Path, name: str, kind: str, entry: str, source: str) -> None:
    """Write an installed package with an entry point, as pip would."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[graftlm.{kind}]\n{entry}\n")


@pytest.mark.parametrize("kind", CONTENTS)
def test_contents(kind: str) -> None:
    assert Catalog(kind).names() == CONTENTS[kind]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in CONTENTS.items() for name in names]
)
def test_every_member_is_the_class_its_file_is_named_after(kind: str, name: str) -> None:
    member = Catalog(kind).get(name)
    assert member.__name__ == camel_case(name)
    if kind != "data.formats":
        assert member.name == name  # pyright: ignore
    assert member.__doc__


def test_every_catalog_of_the_recipe_holds_configurations() -> None:
    for kind in ("tasks", "objectives", "strategies"):
        for name in Catalog(kind).names():
            assert issubclass(Catalog(kind).get(name), Config)


def test_unknown_names_and_kinds() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"no metric is called 'acuracy'. Did you mean 'accuracy'\? Known: accuracy, answer_f1",
    ):
        Catalog("metrics").get("acuracy")
    with pytest.raises(ConfigurationError, match=r"no strategy is called 'nothing'. Known: full"):
        Catalog("strategies").check("nothing")
    with pytest.raises(ConfigurationError, match=r"there is no catalog 'graftlm.wishes'"):
        Catalog("wishes").names()


def test_names_are_told_without_importing(
    fresh_catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        "plug_in_broken",
        "strategies",
        "explosive = plug_in_broken:Explosive",
        "raise RuntimeError\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert Catalog("strategies").names() == ["explosive", "full", "head_only", "lora"]
    with pytest.raises(RuntimeError):
        Catalog("strategies").get("explosive")


SLOW = '''
from typing import ClassVar
from graftlm.strategies.full import Full
from graftlm.config import Config

class Halved(Config):
    """Half of it."""
    name: ClassVar[str] = "halved"
    share: float = 0.5
    """How much of it moves."""
'''


def test_an_installed_plug_in_is_found_and_validated(
    fresh_catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plug_in_halved", "strategies", "halved = plug_in_halved:Halved", SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    recipe = load_recipe(None, ["strategy.name=halved", "strategy.share=0.25"])
    assert recipe.dump()["strategy"] == {"name": "halved", "share": 0.25}
    with pytest.raises(
        ConfigurationError, match=r"strategy.shar: unknown option. Did you mean 'strategy.share'"
    ):
        load_recipe(None, ["strategy.name=halved", "strategy.shar=0.25"])


def test_a_name_clash_names_both_origins(
    fresh_catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plug_in_twin", "strategies", "full = plug_in_twin:Full", "class Full: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        Catalog("strategies").names()
    assert str(Path("strategies") / "full.py") in str(caught.value)
    assert "entry point of plug_in_twin" in str(caught.value)
    assert "uninstall or rename one of them" in caught.value.fix
