"""New networks of T5's kind look near, and for what is like their own token, before they have learnt anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from graftlm.models.new_model import new_model

SIZES = {
    "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "vocab_size": 300,
    "decoder_start_token_id": 0,
}  # fmt: skip


def _config(family: str) -> Any:
    return transformers.AutoConfig.for_model(family, **SIZES)


def _new(family: str, seed: int) -> Any:
    return new_model(_config(family), "AutoModelForSeq2SeqLM", seed)


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5", "switch_transformers"])
def test_heads_look_near_and_each_less_so(family: str, seed: int) -> None:
    model = _new(family, seed)
    slopes = torch.tensor([1.0, 0.25, 0.0625, 0.015625])[:, None, None]
    for stack, both_ways in ((model.encoder, True), (model.decoder, False)):
        attention = stack.block[0].layer[0].SelfAttention
        bias = attention.compute_bias(40, 40)[0].detach()
        places = torch.arange(40)
        distances = places[:, None] - places
        seen = distances.abs() < 40 if both_ways else distances >= 0
        near = seen & (distances.abs() < (8 if both_ways else 16))
        expected = -slopes * distances.abs()
        assert torch.equal(bias[:, near], expected[:, near])
        # Further away one number stands for several distances, of which it is the smallest.
        off = (bias - expected)[:, seen & ~near] / slopes[:, :, 0]
        assert float(off.min()) >= -1e-3 and float(off.max()) < 24


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5", "longt5", "switch_transformers"])
def test_a_decoder_looks_for_what_is_like_its_own_token(family: str, seed: int) -> None:
    """Of twelve random vectors each finds itself, by every head together; sizes are those of the family."""
    model = _new(family, seed)
    plain = transformers.AutoModelForSeq2SeqLM.from_config(_config(family))
    values = torch.randn(12, 64, generator=torch.Generator().manual_seed(seed))
    for block, usual in zip(model.decoder.block, plain.decoder.block, strict=True):
        attention, other = (each.layer[1].EncDecAttention for each in (block, usual))
        scores = attention.q(values) @ attention.k(values).T
        assert scores.argmax(1).tolist() == list(range(12))
        for name in ("q", "k", "v", "o"):
            sizes = [float(getattr(each, name).weight.detach().std()) for each in (attention, other)]
            assert sizes[0] == pytest.approx(sizes[1], rel=0.15)


def test_the_seed_decides_the_rest(seed: int) -> None:
    one, same, other = (_new("t5", each).state_dict() for each in (seed, seed, seed + 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    random = [name for name in one if "layer_norm" not in name and "relative_attention_bias" not in name]
    assert random and not any(torch.equal(one[name], other[name]) for name in random)
