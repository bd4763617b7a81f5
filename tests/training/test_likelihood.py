"""Log-likelihoods of whole texts, in batches, flat or padded: as computed one token at a time by plain transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tiny import tiny_base, tiny_config

from graftlm.errors import DataError, ModelError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.flat.execution import is_flat
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import locate
from graftlm.training import likelihood
from graftlm.training.likelihood import log_likelihoods

HEADS = {"bert": "MaskedLM", "roberta": "MaskedLM", "distilbert": "MaskedLM", "gpt2": "CausalLM", "llama": "CausalLM",
         "bart": "Seq2SeqLM", "t5": "Seq2SeqLM"}  # fmt: skip
PADDED = ("t5",)
WORDS = ("the", "hotel", "was", "good", "and", "refunded", "a", "pizza", "xyz", "!", "staff's", "late")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Family -> network with random weights and its tokenizer."""
    found: dict[str, Any] = {}

    def make(family: str, seed: int) -> Any:
        if family not in found:
            folder = tiny_base(tmp_path_factory.mktemp("likelihood") / family, family)
            found[family] = load_tokenizer(locate(str(folder)))
        tokenizer = found[family]
        config = tiny_config(family, len(tokenizer))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = getattr(transformers, f"AutoModelFor{HEADS[family]}").from_config(config)
            for parameter in model.parameters():  # far from uniform, biases too
                torch.nn.init.normal_(parameter, std=0.3)
        return model, tokenizer

    return make


def texts_of(seed: int, number: int = 6) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 9))) for _ in range(number)]


def _note(seen: list[tuple[int, int]], done: int, total: int) -> None:
    seen.append((done, total))


def log_probability(logits: torch.Tensor, token: int) -> float:
    return float(logits.double().log_softmax(-1)[token])


@torch.no_grad()
def one_by_one(model: Any, tokenizer: Any, family: str, text: str, within_word: bool = False) -> float:
    """As the definition says it, one forward pass for each token."""
    model.eval()
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    if HEADS[family] == "MaskedLM":
        encoded = tokenizer(text)
        words, whole = encoded.word_ids(), encoded["input_ids"]
        assert whole[1:-1] == bare
        for at in range(1, len(whole) - 1):
            shown = [
                tokenizer.mask_token_id
                if other == at or (within_word and other > at and words[other] == words[at])
                else token
                for other, token in enumerate(whole)
            ]
            total += log_probability(model(torch.tensor([shown])).logits[0, at], whole[at])
        return total
    if HEADS[family] == "CausalLM":
        before = [tokenizer.bos_token_id]
        for token in bare:
            total += log_probability(model(torch.tensor([before])).logits[0, -1], token)
            before.append(token)
        return total
    if family == "bart":
        read, before = [0, tokenizer.mask_token_id, 2], [2, 0]  # it begins with its start token and <s>
    else:
        read, before = [1], [0]  # this tokenizer has no sentinel
    for token in bare:
        result = model(input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([before]))
        total += log_probability(result.logits[0, -1], token)
        before.append(token)
    return total


@pytest.mark.parametrize("family", HEADS)
def test_as_one_token_at_a_time(made, seed, family):
    model, tokenizer = made(family, seed)
    texts = texts_of(seed)
    expected = [one_by_one(model, tokenizer, family, text) for text in texts]
    for flat in (False, True):
        if flat:
            reason = make_flat(model, gradients=False)
            assert is_flat(model) is (family not in PADDED), reason
        model.train()  # dropout is on, and is left on
        seen: list[tuple[int, int]] = []
        found = log_likelihoods(model, tokenizer, texts, 20, on_texts=partial(_note, seen))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert model.training
        assert len(seen) > 1 and seen[-1][0] == seen[-1][1]
        np.testing.assert_array_equal(found, log_likelihoods(model, tokenizer, texts, most_tokens=20))
    np.testing.assert_allclose(
        log_likelihoods(model, tokenizer, texts[::-1]), expected[::-1], rtol=1e-5, atol=1e-5
    )


def test_later_tokens_of_a_word_are_masked_too(made, seed):
    model, tokenizer = made("bert", seed)
    texts = ["refunded xyz", "the hotel", *texts_of(seed)]
    assert len(tokenizer.tokenize("xyz")) == 3
    usual, within = (log_likelihoods(model, tokenizer, texts, within_word=within) for within in (False, True))
    expected = [one_by_one(model, tokenizer, "bert", text, within_word=True) for text in texts]
    np.testing.assert_allclose(within, expected, rtol=1e-5, atol=1e-5)
    assert usual[0] != within[0]
    assert usual[1] == pytest.approx(within[1], abs=1e-5)


def test_the_gap_of_t5_is_its_first_sentinel(made, seed):
    model, _ = made("t5", seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made("t5", seed)[1].name_or_path)
    model.resize_token_embeddings(len(tokenizer) + 1)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_id_0>"]})
    gap = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    model.eval()
    bare = tokenizer("the hotel was good", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[gap, 1]]), decoder_input_ids=torch.tensor([[0, gap, *bare]])
        ).logits[0]
    expected = sum(log_probability(logits[1 + at], token) for at, token in enumerate(bare))
    (found,) = log_likelihoods(model, tokenizer, ["the hotel was good"])
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_a_begin_token_the_end_token_stands_before_and_else_nothing(made, seed):
    model, tokenizer = made("llama", seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    tokenizer.bos_token, tokenizer.pad_token = None, tokenizer.eos_token
    model.eval()
    for before in ([tokenizer.eos_token_id], []):
        ids = [*before, *tokenizer("good hotel staff", add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected = sum(log_probability(logits[at], token) for at, token in enumerate(ids[1:]))
        found = log_likelihoods(model, tokenizer, ["good hotel staff", ""])
        assert found.tolist() == [pytest.approx(expected, rel=1e-5), 0.0]
        tokenizer.eos_token = None


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_texts_of_nothing_and_no_texts(made, seed, family):
    model, tokenizer = made(family, seed)
    assert log_likelihoods(model, tokenizer, ["", "  "]).tolist() == [0.0, 0.0]
    assert log_likelihoods(model, tokenizer, []).shape == (0,)


def test_what_cannot_be_asked_is_refused(made, seed):
    model, tokenizer = made("bert", seed)
    with pytest.raises(DataError, match="text 2 has 102 tokens, the model reads 64"):
        log_likelihoods(model, tokenizer, ["the", "the " * 100])
    with pytest.raises(ModelError, match="no mask token"):
        log_likelihoods(model, made("gpt2", seed)[1], ["the"])


def test_a_large_vocabulary_makes_batches_smaller(made, seed, monkeypatch):
    model, tokenizer = made("gpt2", seed)
    sizes = []
    forward = likelihood.forward_where_targets
    monkeypatch.setattr(likelihood, "MOST_LOGITS", 20 * len(tokenizer))
    monkeypatch.setattr(
        likelihood,
        "forward_where_targets",
        lambda *each: sizes.append(tuple(each[1].real.shape)) or forward(*each),
    )
    log_likelihoods(model, tokenizer, texts_of(seed, 40))
    # A text that is longer than that by itself is scored alone.
    assert len(sizes) > 5 and all(rows * columns <= 20 or rows == 1 for rows, columns in sizes)
