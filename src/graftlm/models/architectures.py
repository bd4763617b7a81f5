"""Networks to pretrain from nothing: sizes by name, or any configuration of transformers in a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from graftlm.errors import ConfigurationError
from graftlm.models.architecture_sizes import SIZES, is_new, unknown
from graftlm.models.base_model import OFFSET_POSITIONS, quiet_transformers
from graftlm.models.families import family_of, special_layout
from graftlm.models.safety import config_of, read_config


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
    if positions is not None and name in SIZES:
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
    if name in SIZES:
        return {"model_type": name.partition("-")[0], **SIZES[name]}, name
    path = Path(name).expanduser()
    if not (is_new(name) and path.is_file()):
        raise unknown(name)
    return read_config(path.parent, path.name), str(path)
