"""`graft minimal-pairs`: a network that has learnt a toy language finds its sentences more probable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.cli.conftest import Outcome, graft
from tests.tiny import tiny_config, tiny_tokenizer
from transformers import PreTrainedModel

from graftlm.errors import ConfigurationError, DataError, ModelError
from graftlm.workflows.minimal_pairs import score_minimal_pairs

__all__ = ["graft"]

# The verb agrees with the subject.
SUBJECTS = {"one": ["cat", "dog", "bird", "fox"], "many": ["cats", "dogs", "birds", "foxes"]}
VERBS = {"one": ["runs", "sings", "sleeps"], "many": ["run", "sing", "sleep"]}
WORDS = ("the", "here", *(word for words in (*SUBJECTS.values(), *VERBS.values()) for word in words))


def sentence(random: np.random.Generator, number: str, grammatical: bool) -> str:
    other = {"one": "many", "many": "one"}[number]
    verb = random.choice(VERBS[number if grammatical else other])
    return f"the {random.choice(SUBJECTS[number])} {verb} here"


def pair(random: np.random.Generator) -> tuple[str, str]:
    """Two sentences that differ in the verb's number."""
    number, state = random.choice(list(SUBJECTS)), random.bit_generator.state
    good = sentence(random, number, True)
    random.bit_generator.state = state
    return good, sentence(random, number, False)


def write_pairs(folder: Path, seed: int, names: tuple[str, ...] = ("agreement_1", "agreement_2")) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir()
    for name in names:
        rows = [dict(zip(("sentence_good", "sentence_bad"), pair(random), strict=True)) for _ in range(30)]
        lines = [json.dumps({**row, "linguistics_term": "agreement"}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def train(model: PreTrainedModel, tokenizer: Any, seed: int, steps: int, masked: bool) -> None:
    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(steps):
        texts = [sentence(random, random.choice(list(SUBJECTS)), True) for _ in range(32)]
        ids = tokenizer(texts, return_tensors="pt")["input_ids"]
        if masked:
            # The subject from the verb, or the other way round.
            hidden = torch.zeros_like(ids, dtype=torch.bool)
            hidden[torch.arange(len(ids)), torch.from_numpy(random.choice([2, 3], len(ids)))] = True
            loss = model(
                ids.masked_fill(hidden, tokenizer.mask_token_id), labels=ids.masked_fill(~hidden, -100)
            ).loss
        else:
            ids = torch.cat([torch.full((len(ids), 1), tokenizer.bos_token_id), ids], dim=1)
            loss = model(ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def make(folder: Path, family: str, seed: int, steps: int) -> Path:
    tokenizer = tiny_tokenizer(folder, WORDS, family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
        config = tiny_config(family, len(tokenizer), dropout=0.0)
        config.initializer_range = 0.2  # narrow layers begin to attend sooner
        model = auto.from_config(config)
        train(model, tokenizer, seed, steps, family == "bert")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    # A masked network sees one word of a sentence a step: of 25 seeds ten had not learnt to agree after 80 steps.
    ("family", "method", "steps"),
    [("gpt2", "log-likelihood", 80), ("bert", "pseudo-log-likelihood", 240)],
)
def test_a_network_that_learnt_the_language_prefers_its_sentences(
    tmp_path: Path, seed: int, family: str, method: str, steps: int
) -> None:
    folder = write_pairs(tmp_path / "pairs", seed)
    before, after = (
        score_minimal_pairs(
            str(make(tmp_path / f"{family}-{taken}", family, seed, taken)), folder, resamples=200
        )
        for taken in (0, steps)
    )
    assert after["method"] == method
    values = after["scores"]["values"]
    assert set(values) == {
        "accuracy",
        "phenomenon[agreement]",
        "accuracy[agreement_1]",
        "accuracy[agreement_2]",
    }
    assert values["accuracy"]["value"] > 0.95
    assert before["scores"]["values"]["accuracy"]["value"] < 0.9  # by chance one half
    assert after["data"]["fingerprint"] == before["data"]["fingerprint"]
    assert after["base"]["fingerprint"] != before["base"]["fingerprint"]


def test_the_command(tmp_path: Path, seed: int, graft: Callable[..., Outcome]) -> None:
    folder, base = write_pairs(tmp_path / "pairs", seed), make(tmp_path / "gpt2", "gpt2", seed, 0)
    record = tmp_path / "result.json"
    outcome = graft("minimal-pairs", base, folder, "--rows", 7, "--json", "--output", record)
    assert outcome.code == 0, outcome.err
    result = outcome.json()
    assert result == json.loads(record.read_text())
    assert result["data"]["first_rows_of_each_paradigm"] == 7
    assert (result["data"]["pairs"], result["scores"]["rows"]) == (14, 14)
    again = graft("minimal-pairs", base, folder, "--rows", 7, "--json", "--quiet").json()
    assert again["scores"] == result["scores"]

    shown = graft("minimal-pairs", base, folder / "agreement_1.jsonl", "--rows", 7)
    assert shown.code == 0, shown.err
    for words in (
        "7 minimal pairs of 1 paradigms by log-likelihood",
        "all paradigms",
        "agreement",
        "first 7 pairs",
    ):
        assert words in shown.out
    assert "scoring 7 pairs of 1 paradigm" in shown.err
    assert "the cat" not in shown.out + shown.err


def test_words_are_masked_whole_where_it_is_asked(tmp_path: Path, seed: int) -> None:
    folder, base = write_pairs(tmp_path / "pairs", seed), make(tmp_path / "bert", "bert", seed, 0)
    result = score_minimal_pairs(str(base), folder, rows=2, within_word=True, resamples=10)
    assert result["method"] == "pseudo-log-likelihood, later tokens of a word masked too"


def test_the_same_to_the_model_is_a_tie(tmp_path: Path, seed: int) -> None:
    base = make(tmp_path / "gpt2", "gpt2", seed, 20)
    rows = [
        {"sentence_good": f"the {'cat ' * number}runs", "sentence_bad": f"The {'Cat ' * number}RUNS"}
        for number in range(20)
    ]
    (tmp_path / "case.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = score_minimal_pairs(str(base), tmp_path / "case.jsonl", resamples=10)
    assert result["scores"]["values"]["accuracy"]["value"] == 0.5


def test_a_model_without_a_trained_head_and_a_sentence_too_long_are_refused(
    tmp_path: Path, tiny_bert: Path, seed: int
) -> None:
    folder = write_pairs(tmp_path / "pairs", seed)
    with pytest.raises(ModelError, match="no pretrained language modelling head"):
        score_minimal_pairs(str(tiny_bert), folder)
    base = make(tmp_path / "gpt2", "gpt2", seed, 0)
    long = {"sentence_good": "the " * 70, "sentence_bad": "the"}
    (folder / "agreement_1.jsonl").write_text(json.dumps(long) + "\n")
    with pytest.raises(DataError, match="71 tokens, the model reads 64"):
        score_minimal_pairs(str(base), folder)


def test_a_model_that_writes_hides_no_later_tokens(tmp_path: Path, seed: int) -> None:
    base = make(tmp_path / "gpt2", "gpt2", seed, 0)
    with pytest.raises(ConfigurationError, match="writes from left to right"):
        score_minimal_pairs(str(base), write_pairs(tmp_path / "pairs", seed), within_word=True)
