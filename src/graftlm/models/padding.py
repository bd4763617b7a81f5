"""What fills short rows of a batch up, and models that would read it."""

from __future__ import annotations

import inspect

from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from graftlm.errors import ModelError


def padding_note(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a sentence for the user where one token both ends and pads, else nothing."""
    if tokenizer.pad_token != tokenizer.eos_token:
        return ""
    return f"The tokenizer has no pad token of its own; its end token {tokenizer.eos_token} is used to pad."


def require_unread_padding(body: type[PreTrainedModel] | None, config: PreTrainedConfig, where: str) -> None:
    """Refuse an encoder that cannot be told what is padding: what it says would depend on the texts in the batch.

    In decoders nothing is read that stands behind.

    Args:
        body: class of the network without a head; None where the family has none.
        config: of the network.
        where: its file.

    Raises:
        ModelError: it takes no attention mask, as FNet.
    """
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if body is not None and encoder and "attention_mask" not in inspect.signature(body.forward).parameters:
        raise ModelError(
            f"a {config.model_type} model takes no attention mask, so what it says of a text would change with the "
            "padding, that is with the texts beside it",
            where=where,
            fix="choose another base model",
        )
