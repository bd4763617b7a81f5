"""Sizes of networks to pretrain from nothing, by name; known without transformers: a wrong name is refused at once.

Parameters are counted with 8,192 tokens, 512 positions and the head of language modelling, tied tables once. bert-* are
the sizes of Turc et al. 2019 (arXiv:1908.08962); roberta-base, electra-small, electra-base, modernbert-base,
gpt2-small, t5-small and bart-base have the form published under these names; the others are made smaller in the same
way. Every attention head is 64 wide.

    name               layers  width  parameters
    bert-tiny               2    128       1.5 M
    bert-mini               4    256       5.5 M
    bert-small              4    512      17.3 M
    bert-base              12    768      92.3 M
    roberta-mini            4    256       5.5 M
    roberta-small           4    512      17.3 M
    roberta-base           12    768      92.3 M
    electra-tiny            2    128       1.5 M
    electra-mini            4    256       4.3 M
    electra-small          12    256      10.7 M
    electra-base           12    768      92.3 M
    modernbert-mini         4    256       4.4 M
    modernbert-small        8    512      22.3 M
    modernbert-base        22    768     117.2 M
    gpt2-mini               4    256       5.4 M
    gpt2-small             12    768      91.7 M
    llama-mini              4    256       5.3 M
    llama-small            12    768      91.2 M
    t5-tiny               2+2    256       5.8 M
    t5-mini               4+4    256       9.4 M
    t5-small              6+6    512      48.3 M
    bart-tiny             2+2    256       6.0 M
    bart-mini             4+4    256       9.7 M
    bart-small            4+4    512      34.1 M
    bart-base             6+6    768     106.3 M
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftlm.errors import ConfigurationError, clip, nearest

_HEAD = 64


def _encoder(layers: int, width: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // _HEAD,
        "intermediate_size": 4 * width,
    }


def _roberta(layers: int, width: int) -> dict[str, Any]:
    # As published; the defaults of transformers are BERT's.
    return {**_encoder(layers, width), "type_vocab_size": 1, "layer_norm_eps": 1e-5}


def _electra(layers: int, width: int, embedding: int) -> dict[str, Any]:
    return {**_encoder(layers, width), "embedding_size": embedding}


def _modern(layers: int, width: int) -> dict[str, Any]:
    # As published; by default of transformers, classifiers read the first token alone, which learns little by itself.
    return {**_encoder(layers, width), "intermediate_size": 3 * width // 2, "classifier_pooling": "mean"}


def _gpt2(layers: int, width: int) -> dict[str, Any]:
    return {"n_layer": layers, "n_embd": width, "n_head": width // _HEAD}


def _llama(layers: int, width: int) -> dict[str, Any]:
    # Three matrices in place of two: 8/3 of the width, in steps of 16, give the size of a feed-forward layer of 4.
    inner = -(-8 * width // 3 // 16) * 16
    return {**_encoder(layers, width), "intermediate_size": inner, "tie_word_embeddings": True}


def _t5(layers: int, width: int) -> dict[str, Any]:
    return {
        "num_layers": layers,
        "d_model": width,
        "d_kv": _HEAD,
        "num_heads": width // _HEAD,
        "d_ff": 4 * width,
    }


def _bart(layers: int, width: int) -> dict[str, Any]:
    parts = {"layers": layers, "attention_heads": width // _HEAD, "ffn_dim": 4 * width}
    both = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in parts.items()}
    return {"d_model": width, **both}


SIZES: Mapping[str, dict[str, Any]] = {
    "bert-tiny": _encoder(2, 128),
    "bert-mini": _encoder(4, 256),
    "bert-small": _encoder(4, 512),
    "bert-base": _encoder(12, 768),
    "roberta-mini": _roberta(4, 256),
    "roberta-small": _roberta(4, 512),
    "roberta-base": _roberta(12, 768),
    "electra-tiny": _electra(2, 128, 128),
    "electra-mini": _electra(4, 256, 128),
    "electra-small": _electra(12, 256, 128),
    "electra-base": _electra(12, 768, 768),
    "modernbert-mini": _modern(4, 256),
    "modernbert-small": _modern(8, 512),
    "modernbert-base": _modern(22, 768),
    "gpt2-mini": _gpt2(4, 256),
    "gpt2-small": _gpt2(12, 768),
    "llama-mini": _llama(4, 256),
    "llama-small": _llama(12, 768),
    "t5-tiny": _t5(2, 256),
    "t5-mini": _t5(4, 256),
    "t5-small": _t5(6, 512),
    "bart-tiny": _bart(2, 256),
    "bart-mini": _bart(4, 256),
    "bart-small": _bart(4, 512),
    "bart-base": _bart(6, 768),
}


def names() -> list[str]:
    """Return the names of the architectures, families together, small ones first."""
    return list(SIZES)


def is_new(base: str) -> bool:
    """Whether ``base`` of a recipe is a new network: a name, or a configuration file; else it is a base model."""
    return base in SIZES or base.endswith(".json")


def require_known(base: str) -> None:
    """Refuse a word that is neither a name, nor a file or folder, nor the address of a base model.

    Raises:
        ConfigurationError: with the nearest name.
    """
    path = Path(base).expanduser()
    there = (
        path.is_file()
        if base.endswith(".json")
        else base.startswith("bundled:") or "/" in base or path.is_dir()
    )
    if base not in SIZES and not there:
        raise unknown(base)


def unknown(base: str) -> ConfigurationError:
    """Return what to say of a word that names nothing, with the nearest name."""
    return ConfigurationError(
        f"there is no architecture, file or folder {clip(base)}.{nearest(base, SIZES)}",
        where="base",
        fix=f"give one of {', '.join(SIZES)}; a JSON file with a configuration of transformers; or a base model: "
        "a folder, org/name of the hub, bundled:<name>",
    )
