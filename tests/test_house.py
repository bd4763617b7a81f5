"""What the source itself must look like: sizes, and nothing that could execute a file's content."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "graftlm"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 80


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_and_functions_stay_readable(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_nothing_unpickles_or_evaluates(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "dill", "joblib", "marshal", "shelve", "requests", "urllib"}
    for name, call in _calls(tree):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "os.system", "pd.read_pickle"), name
        if name == "torch.load":  # in a process of its own, see graftlm.models.separate_process
            assert (file.name, options.get("weights_only")) == ("pickled_weights.py", "True")
        assert options.get("shell") != "True", name
        assert options.get("trust_remote_code", "False") == "False", name
        assert options.get("allow_pickle", "False") == "False", name
        if name in ("yaml.load", "yaml.load_all"):
            assert options.get("Loader") == "_Loader", "only our subclass of SafeLoader"


def test_the_house_is_made_of_small_files() -> None:
    lengths = sorted(file.read_text().count("\n") for file in FILES)
    assert lengths[len(lengths) // 2] <= 120
