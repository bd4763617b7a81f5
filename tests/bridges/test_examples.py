"""Every script in `examples/` runs, and so does the stock script that it stands for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
IMPORT = "from graftlm import Trainer  # the stock script says: from transformers import Trainer\n"


@pytest.mark.filterwarnings("ignore:.*pin_memory.*", "ignore:.*is_gradient_checkpointing.*")
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_it_runs(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    if script.stem == "resume":
        assert "True" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_one_import_makes_it_the_stock_script(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.count("graftlm") == 1 and IMPORT in text


def test_there_are_ten() -> None:
    assert len(EXAMPLES) == 10
