"""``graft pretrain`` where there is little text: it says so before it trains, and trains as long as it was asked to."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import WORDS

from graftlm.errors import DataError
from graftlm.pretraining_recipe import load_pretraining
from graftlm.rundir import RunDirectory
from graftlm.training.order import TokenBudgets
from graftlm.workflows.pretrain import pretrain, resume

NARROW = {
    "bert": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    },
    "t5": {"d_model": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2, "d_ff": 32},
}  # fmt: skip
PAIRS = {"objective.pairs": "next_sentence"}
SPANS = {"objective.name": "span_corruption"}


def _documents(count: int, sentences: int, words: int = 7) -> str:
    draw = random.Random(7)
    sentence = lambda: " ".join(draw.choices(WORDS[:80], k=words)).capitalize() + "."  # noqa: E731
    return "\n\n".join("\n".join(sentence() for _ in range(sentences)) for _ in range(count))


def _pretrain(folder: Path, text: str, family: str = "bert", **changes: Any) -> RunDirectory:
    texts, config = folder / "texts.txt", folder / "config.json"
    texts.write_text(text, encoding="utf-8")
    config.write_text(json.dumps({"model_type": family, **NARROW[family]}), encoding="utf-8")
    recipe = load_pretraining(
        None,
        {
            "base": str(config), "corpus.path": str(texts), "corpus.document": "blank_line",
            "corpus.held_out_share": 0.2, "tokenizer.vocabulary_size": 240 if family == "bert" else 300,
            "training.max_length_tokens": 32, "training.batch_tokens": 512, "evaluation.proof": "none", **changes,
        },
    )  # fmt: skip
    return pretrain(recipe, folder / "run")


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass without examples fails here instead of being followed by another one for ever."""
    real = TokenBudgets.steps

    def steps(self: TokenBudgets, source: Any, start: int) -> Iterator[Any]:
        assert len(source.in_pass(0).lengths)
        assert not self.short_steps or len(source.in_pass(0, True).lengths)
        return real(self, source, start)

    monkeypatch.setattr(TokenBudgets, "steps", steps)


@pytest.mark.parametrize(
    ("text", "family", "changes", "where", "said"),
    [
        (_documents(60, 1), "bert", PAIRS, "corpus", "no document is long enough"),
        (_documents(60, 1), "bert", {"objective.pairs": "sentence_order"}, "corpus", "no document is long"),
        (_documents(60, 4), "t5", SPANS | {"training.max_length_tokens": 8}, "corpus", "no document is long"),
        (_documents(60, 4), "t5", SPANS | {"training.short_share": 0.5}, "training.short_share", "a quarter"),
        # One document is held out, which has no other one to pair its sentences with.
        (_documents(20, 5), "bert", PAIRS | {"corpus.held_out_share": 1e-6}, "corpus.held_out_share", "has 1"),
        # One is, and none of its few tokens is hidden.
        (
            _documents(60, 1, 5), "bert", {"corpus.held_out_share": 1e-6, "objective.mask_share": 0.01},
            "corpus.held_out_share", "nothing of it can be scored",
        ),
    ],
)  # fmt: skip
def test_too_little_is_refused_before_anything_is_trained(
    text: str, family: str, changes: dict[str, Any], where: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        _pretrain(tmp_path, text, family, **changes)
    assert caught.value.where == where and caught.value.fix
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("other", "said"), [("hi", "nothing of it"), (_documents(1, 9), "has 1")])
def test_other_text_that_cannot_be_scored_is_refused_before_anything_is_trained(
    other: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.txt"
    file.write_text(other, encoding="utf-8")
    changes = {"evaluation.general_text": str(file), **(PAIRS if "has" in said else {})}
    with pytest.raises(DataError, match=said) as caught:
        _pretrain(tmp_path, _documents(60, 4), **changes)
    assert caught.value.where == "evaluation.general_text"


@pytest.mark.parametrize("other", [False, True])
def test_nothing_need_be_held_out(other: bool, tmp_path: Path) -> None:
    file = tmp_path / "other.txt"
    file.write_text(_documents(30, 4), encoding="utf-8")
    changes: dict[str, Any] = {"corpus.held_out_share": 0.0}
    if other:
        changes["evaluation.general_text"] = str(file)
    run = _pretrain(tmp_path, _documents(60, 4), **changes)
    record, card = run.read_record(), (run.model / "README.md").read_text(encoding="utf-8")
    assert record["state"] == "finished" and not run.evaluation("held_out").exists()
    assert ("perplexity" in card) == other == ("nothing is known" not in card)


def test_a_run_that_is_extended_has_no_short_examples_again(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "training.short_share": 0.5,
        "training.epochs": 2.0,
        "training.batch_tokens": 256,
    }
    run = _pretrain(tmp_path, _documents(60, 4), **changes)
    done = run.read_record()["steps"]
    resume(run.path, 8.0)
    steps = [json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines()]
    sizes = {each["step"]: each["tokens"] / each["examples"] for each in steps if "tokens" in each}
    assert max(sizes) > 2 * done and sizes[1] <= 8.0
    assert all(size > 8.0 for step, size in sizes.items() if step > done)
    # As often as it is asked for, and as often as it is interrupted.
    resume(run.path, 9.0)
    assert run.read_record()["state"] == "finished"
