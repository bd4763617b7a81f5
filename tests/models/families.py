"""A tiny random configuration of many families, for tests of flat execution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from graftlm.models.flat.probe import make_flat

VOCABULARY = 97
_SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 48}  # fmt: skip
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_SMALL, **_TOKENS, "num_key_value_heads": 2}

ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": _SMALL,
    "Roberta": {**_SMALL, "max_position_embeddings": 66, "pad_token_id": 1},
    "XLMRoberta": {**_SMALL, "max_position_embeddings": 66, "pad_token_id": 1},
    "Camembert": {**_SMALL, "max_position_embeddings": 66, "pad_token_id": 1},
    "Electra": {**_SMALL, "embedding_size": 16},
    "Albert": {**_SMALL, "embedding_size": 16},
    "DistilBert": {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "ModernBert": {**_SMALL, **_TOKENS, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
    "EuroBert": _GROUPED,
}
DECODERS: dict[str, dict[str, Any]] = {
    "GPT2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, **_TOKENS},
    "GPTNeoX": {**_SMALL, **_TOKENS},
    "Llama": _GROUPED,
    "Mistral": {**_GROUPED, "sliding_window": 5},
    "Qwen2": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 8},
    "OPT": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 48,
            "num_attention_heads": 4, "max_position_embeddings": 66, "word_embed_proj_dim": 32, **_TOKENS},
}  # fmt: skip
_PAIR = {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
         "encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40,
         "max_position_embeddings": 66, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}  # fmt: skip
PAIRS: dict[str, dict[str, Any]] = {
    "Bart": {**_PAIR, "pad_token_id": 0, "decoder_start_token_id": 2},
    "MBart": {**_PAIR, "pad_token_id": 0},
    "Marian": {**_PAIR, "pad_token_id": 0, "decoder_start_token_id": 0},
    "Pegasus": {**_PAIR, "pad_token_id": 0},
    "M2M100": {**_PAIR, "pad_token_id": 0},
    "BlenderbotSmall": {**_PAIR, "pad_token_id": 0},
}
PADDED: dict[str, dict[str, Any]] = {
    "DebertaV2": {
        **_SMALL,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
    },
    "MPNet": _SMALL,
    # Its relative positions are a bias of attention.
    "T5": {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}
HEADS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "CausalLM")


def heads_of(family: str) -> list[str]:
    """The heads that transformers has for a family; an encoder is not asked to write, a pair does nothing else."""
    if family in PAIRS:
        return ["Seq2SeqLM"]
    wanted = HEADS if family in DECODERS else HEADS[:-1]
    config = getattr(transformers, f"{family}Config")
    return [head for head in wanted if config in _mapping(head)]


def build(family: str, head: str, seed: int, dropout: float = 0.0) -> PreTrainedModel:
    """Return a network with random weights; the caller's generator is left alone."""
    config = getattr(transformers, f"{family}Config")(**{**ENCODERS, **DECODERS, **PAIRS, **PADDED}[family])
    config.num_labels = 2 if head == "QuestionAnswering" else 3
    for name, value in config.to_dict().items():
        if "drop" in name and "layerdrop" not in name and isinstance(value, float | int | None):
            setattr(config, name, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _mapping(head)[type(config)](config)


def lay_flat(model: PreTrainedModel) -> None:
    """Make the model flat; an older transformers cannot exchange the attention of ModernBERT, which stays padded."""
    reason = make_flat(model)
    if "cannot exchange" in reason and model.config.model_type == "modernbert":
        pytest.skip(f"with transformers {transformers.__version__} ModernBERT works padded: {reason}")
    assert reason == ""


def _mapping(head: str) -> Any:
    return getattr(transformers, f"AutoModelFor{head}")._model_mapping
