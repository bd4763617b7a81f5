"""What the pages name exists: links, files, functions, tests, options, exit codes."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import LINKED, ROOT, prose
from transformers import TrainingArguments

from graftlm import errors
from graftlm.composition import Composition, options
from graftlm.pretraining_recipe import PRETRAINING
from graftlm.recipe import FINE_TUNING

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_EXPLANATION = ROOT / "docs" / "explanation"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_resolve(page: Path) -> None:
    for match in _LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {match['target']}"
        if anchor:
            assert anchor in _anchors(linked), f"{page.name} links to {match['target']}"
        if page.is_relative_to(ROOT / "docs"):
            assert linked.is_relative_to(ROOT / "docs"), f"{page.name}: {target} is not part of the site"


def _definitions(file: Path) -> set[str]:
    """Return the functions and classes of a file, and its methods as ``Class.method``."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return names


def _named(page: Path) -> list[tuple[str, str]]:
    """Return (file, function) for each `` `function()` ``, with the `` `file.py` `` named last before it."""
    pairs: list[tuple[str, str]] = []
    file = ""
    for word in _CODE.findall(prose(page)):
        if word.endswith(".py"):
            file = word
            pairs.append((file, ""))
        elif word.endswith("()"):
            pairs.append((file, word.removesuffix("()")))
    return pairs


@pytest.mark.parametrize(
    ("page", "root", "least"), [("one-run.md", ROOT / "src" / "graftlm", 35), ("guarantees.md", ROOT, 20)]
)
def test_files_and_functions_of_the_explanations_exist(page: str, root: Path, least: int) -> None:
    named = _named(_EXPLANATION / page)
    assert sum(bool(function) for _, function in named) >= least
    for file, function in named:
        assert (root / file).is_file(), f"{page} names {file}"
        assert not function or function in _definitions(root / file), f"{page} names {function}() of {file}"


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda page: page.stem[:4]
)
def test_files_of_the_decisions_exist(page: Path) -> None:
    for word in _CODE.findall(prose(page)):
        if re.fullmatch(r"[\w/]+(\.py|/)", word):
            places = (ROOT / "src" / "graftlm" / word, ROOT / word)
            assert any(place.exists() for place in places), f"{page.name} names {word}"


def test_files_of_the_code_tour_exist() -> None:
    tour = prose(ROOT / "CONTRIBUTING.md").split("## A tour of the code")[1].split("## Layers")[0]
    source = ROOT / "src" / "graftlm"
    every = {file.name for file in source.rglob("*.py")} | {f"{folder.name}/" for folder in source.rglob("*")}
    for word in _CODE.findall(tour):
        if word.endswith((".py", "/")) and not word.startswith("src"):
            assert (source / word).exists() or word in every, f"the tour names {word}"


def _site_hook() -> Any:
    spec = importlib.util.spec_from_file_location("generate_options", ROOT / "docs" / "generate_options.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_arguments_is_complete() -> None:
    page = (ROOT / "docs" / "reference" / "trainer-arguments.md").read_text(encoding="utf-8")
    filled = _site_hook().on_page_markdown(page)
    for field in dataclasses.fields(TrainingArguments):
        assert filled.count(f"| `{field.name}` | ") == 1, field.name


@pytest.mark.parametrize(
    ("page", "kind"), [("recipe.md", FINE_TUNING), ("pretraining-recipe.md", PRETRAINING)]
)
def test_the_list_of_options_is_complete(page: str, kind: Composition[Any]) -> None:
    module = _site_hook()
    filled = module.on_page_markdown((ROOT / "docs" / "reference" / page).read_text(encoding="utf-8"))
    keys = [key for key, _, _ in options(kind.kind, "")]
    for section, catalog in kind.sections.items():
        for name in catalog.names():
            assert f"## {section}: {name}" in filled
            keys += [key for key, _, _ in options(catalog.get(name), f"{section}.")]
    assert len(keys) > 30
    for key in keys:
        assert f"| `{key}` | " in filled
    rows = [line for line in filled.splitlines() if line.startswith("| `")]
    assert len(rows) == len(keys)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 and not row.endswith("|  |") for row in rows)


def test_exit_codes_are_those_of_the_errors() -> None:
    page = prose(ROOT / "docs" / "reference" / "exit-codes.md")
    table = {
        name: int(match[1])
        for match in re.finditer(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
        for name in _CODE.findall(match[2])
        if name != "Interrupted"
    }
    classes = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.GraftError)
        and name not in ("GraftError", "Interrupted")
    }
    assert table == classes
    assert {errors.Interrupted("", signal_number=number).exit_code for number in (2, 15)} == {130, 143}
    assert "| 130 |" in page and "| 143 |" in page


def test_every_kind_of_finding_is_explained() -> None:
    page = (ROOT / "docs" / "how-to" / "read-a-data-report.md").read_text(encoding="utf-8")
    kinds: dict[str, str] = {}
    for file in (ROOT / "src" / "graftlm" / "checking").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > 2:
                first, second = (getattr(argument, "value", None) for argument in node.args[:2])
                if first in ("error", "warning", "note"):
                    kinds[str(second)] = str(first)
    assert len(kinds) > 12
    for kind, severity in kinds.items():
        assert re.search(rf"^\| [^|]*`{kind}`[^|]*\| {severity} \|", page, re.MULTILINE), kind
