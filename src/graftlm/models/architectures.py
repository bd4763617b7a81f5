"""Networks to pretrain from nothing: sizes by name, or any configuration of transformers in a JSON file.

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

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from graftlm.errors import ConfigurationError, clip, nearest
from graftlm.models.base_model import OFFSET_POSITIONS, quiet_transformers
from graftlm.models.families import family_of, special_layout
from graftlm.models.safety import config_of, read_config

_HEAD = 64
_WHERE = "architecture"


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


_NAMED: Mapping[str, dict[str, Any]] = {
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
    return list(_NAMED)


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """Return role -> id as configurations have them: ``pad_token_id``, ``bos_token_id`` and so on."""
    ids = {
        f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep", "mask")
    }
    # Encoders without these roles open and close a text with the tokens of their own roles.
    return {
        **ids,
        "bos_token_id": _first(tokenizer, "bos", "cls"),
        "eos_token_id": _first(tokenizer, "eos", "sep"),
    }


def stored_config(name: str) -> PreTrainedConfig:
    """Return the configuration of a name or a JSON file as it is, which tells the family before there is a tokenizer.

    Raises:
        ConfigurationError: there is no such name.
        ModelError: the file is no configuration of transformers, or asks for code or for absurd sizes.
    """
    return _built(*_settings(name))


def architecture(
    name: str,
    vocabulary_size: int,
    max_length_tokens: int,
    special: Mapping[str, int | None],
    dropout: float | None = None,
) -> PreTrainedConfig:
    """Return the configuration of a network for a tokenizer and a length.

    Args:
        name: one of `names`, or the path of a JSON file with ``model_type`` and the settings of that family.
        vocabulary_size: rows of the embedding.
        max_length_tokens: longest input, special tokens included. A file must allow as much; a name adapts.
        special: of `special_token_ids`; ids of other special tokens in a file are unset: another tokenizer had them.
        dropout: everywhere in the body; None keeps what the family is known with.

    Raises:
        ConfigurationError: there is no such name, or the positions of a file are too few.
        ModelError: the file is no configuration of a language model, or asks for code or for absurd sizes.
    """
    settings, where = _settings(name)
    stored = _built(settings, where)
    known = stored.to_dict()
    settings = {**settings, "vocab_size": vocabulary_size}
    settings |= {key: special.get(key) for key in known if key.endswith("_token_id")}
    if family_of(stored) == "encoder_decoder":
        start = "pad_token_id" if special_layout(stored) == "t5" else "eos_token_id"
        settings["decoder_start_token_id"] = special[start]
    if dropout is not None:
        settings |= {key: dropout for key, value in known.items() if _is_dropout(key, value)}
    offset = (special["pad_token_id"] or 0) + 1 if stored.model_type in OFFSET_POSITIONS else 0
    positions, needed = getattr(stored, "max_position_embeddings", None), max_length_tokens + offset
    if positions is not None and name in _NAMED:
        settings["max_position_embeddings"] = needed
    elif positions is not None and 0 <= positions < needed:  # XLNet says -1, and has no limit
        raise ConfigurationError(
            f"max_position_embeddings is {positions}; {max_length_tokens} tokens need {needed}",
            where=where,
            fix="allow more there, or shorten the inputs",
        )
    return _built(settings, where)


def _is_dropout(key: str, value: object) -> bool:
    """Heads that are put on later have dropouts of their own; layerdrop leaves out whole layers."""
    body = not key.startswith(("classif", "summary", "seq_classif")) and "layerdrop" not in key
    return "drop" in key and body and isinstance(value, int | float)


def _first(tokenizer: PreTrainedTokenizerBase, *roles: str) -> int | None:
    ids = (getattr(tokenizer, f"{role}_token_id") for role in roles)
    return next((index for index in ids if index is not None), None)


def _built(settings: dict[str, Any], where: str) -> PreTrainedConfig:
    with quiet_transformers():
        config = config_of(settings, where)
    config.name_or_path = where
    return config


def _settings(name: str) -> tuple[dict[str, Any], str]:
    if name in _NAMED:
        return {"model_type": name.partition("-")[0], **_NAMED[name]}, name
    path = Path(name).expanduser()
    if path.suffix == ".json" and path.is_file():
        return read_config(path.parent, path.name), str(path)
    raise ConfigurationError(
        f"there is no architecture {clip(name)}.{nearest(name, _NAMED)}",
        where=_WHERE,
        fix=f"give one of {', '.join(_NAMED)}, or a JSON file with a configuration of transformers",
    )
