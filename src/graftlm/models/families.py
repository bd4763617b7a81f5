"""What kind of model a configuration describes, and the tokenizer that is customary for it."""

from __future__ import annotations

from typing import Literal

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    ElectraConfig,
    PreTrainedConfig,
)

from graftlm.errors import ModelError
from graftlm.models.base_model import OFFSET_POSITIONS, mapped_class
from graftlm.models.special_tokens import Layout
from graftlm.models.tokenizer_options import TokenizerKind

Family = Literal["encoder", "decoder", "encoder_decoder"]

_T5 = frozenset({"longt5", "mt5", "switch_transformers", "t5", "umt5"})
_UNIGRAM = _T5 | {
    "albert", "big_bird", "bigbird_pegasus", "camembert", "deberta-v2", "m2m_100", "marian", "mbart", "nllb-moe",
    "pegasus", "pegasus_x", "plbart", "rembert", "xglm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod",
}  # fmt: skip
_BYTE_BPE = frozenset(
    {
        "data2vec-text", "deberta", "eurobert", "ibert", "longformer", "modernbert", "roberta",
        "roberta-prelayernorm",
    }
)  # fmt: skip
"""Encoders; nearly all others have WordPiece."""


def family_of(config: PreTrainedConfig) -> Family:
    """Return which language-modelling objectives a model can learn.

    Many encoders have a causal head as well, and some pairs a masked one: neither makes them what they are not.

    Raises:
        ModelError: it is no language model.
    """
    if (
        getattr(config, "is_encoder_decoder", False)
        and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    ):
        return "encoder_decoder"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "encoder"
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "decoder"
    raise ModelError(
        f"a {config.model_type} model cannot learn a language: it is no encoder, no decoder and no pair of both",
        where="model_type",
        fix="choose a family with an AutoModelForMaskedLM, AutoModelForCausalLM or AutoModelForSeq2SeqLM",
    )


def reads_backwards_only(config: PreTrainedConfig) -> bool:
    """Return whether each token has read those before it alone, as in models that write."""
    one_network = not getattr(config, "is_encoder_decoder", False)
    return one_network and mapped_class("AutoModelForCausalLM", config) is not None


def usual_objective(config: PreTrainedConfig) -> str:
    """Return the name of the objective that the published models of this family were pretrained with.

    Raises:
        ModelError: it is no language model.
    """
    family = family_of(config)
    if family == "encoder":
        # The generator of an ELECTRA is an encoder like any other.
        judges = isinstance(config, ElectraConfig) and "ElectraForMaskedLM" not in (
            config.architectures or []
        )
        return "replaced_token_detection" if judges else "masked_language_modelling"
    if family == "decoder":
        return "causal_language_modelling"
    return "span_corruption" if special_layout(config) == "t5" else "infilling"


def of_t5_kind(config: PreTrainedConfig) -> bool:
    """Return whether a network is a T5 or like one, which do not divide scores of attention by the root of a width."""
    return config.model_type in _T5


def default_tokenizer_kind(config: PreTrainedConfig) -> TokenizerKind:
    """Return the kind of pieces that the published models of this family read."""
    if config.model_type in _UNIGRAM:
        return "unigram"
    if config.model_type in _BYTE_BPE or family_of(config) != "encoder":
        return "byte_bpe"
    return "wordpiece"


def special_layout(config: PreTrainedConfig) -> Layout:
    """Return the special tokens that the published models of this family have."""
    if config.model_type in _T5:
        return "t5"
    family = family_of(config)
    if family == "decoder":
        return "decoder"
    return "roberta" if family == "encoder_decoder" or config.model_type in OFFSET_POSITIONS else "bert"
