"""Which part of a network is its head: what answers, behind the body that reads."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def head_parameters(model: PreTrainedModel) -> list[str]:
    """Return the names of the parameters behind the body, and of its pooler, which only heads read.

    The projection onto a vocabulary is not among them: it is as pretrained as the body. Networks that write have no
    other head, so theirs is empty.
    """
    vocabulary = {id(parameter) for parameter in _vocabulary_parameters(model)}
    return [
        name
        for name, parameter in model.named_parameters()
        if not in_body(model, name) and id(parameter) not in vocabulary
    ]


def vocabulary_parameters(model: PreTrainedModel) -> list[str]:
    """Return the names of the parameters of the projection onto a vocabulary; of shared ones their first name."""
    vocabulary = {id(parameter) for parameter in _vocabulary_parameters(model)}
    return [name for name, parameter in model.named_parameters() if id(parameter) in vocabulary]


def in_body(model: PreTrainedModel, name: str) -> bool:
    """Whether a parameter or module belongs to the body without its pooler; a bare body is all body."""
    if model.base_model is model:
        return True
    prefix = f"{model.base_model_prefix}."
    return name.startswith(prefix) and name.removeprefix(prefix).partition(".")[0] != "pooler"


def _vocabulary_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    layer: Any = model.get_output_embeddings()
    return [] if layer is None else list(layer.parameters())


def body_is_frozen(model: PreTrainedModel) -> bool:
    """Whether nothing moves but head, pooler and a projection onto a vocabulary, which may be shared with the body."""
    vocabulary = {id(parameter) for parameter in _vocabulary_parameters(model)}
    return not any(
        parameter.requires_grad and in_body(model, name) and id(parameter) not in vocabulary
        for name, parameter in model.named_parameters()
    )
