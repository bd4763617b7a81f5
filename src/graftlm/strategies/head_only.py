"""The body stays as it is; its head learns to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from graftlm.config import Config
from graftlm.models.heads import head_parameters, vocabulary_parameters
from graftlm.strategies._strategy import ParameterGroup, by_decay


class HeadOnly(Config):
    """Freeze the body and train the head, with the pooler that only heads read.

    A network that writes has no head but the projection onto its vocabulary; where that shares its matrix with the
    embeddings, these move with it.
    """

    name: ClassVar[str] = "head_only"
    learning_rate: ClassVar[float] = 5e-3

    def adapt(self, model: nn.Module, new: Sequence[str], seed: int) -> None:
        """Leave the network as it is: the head is there."""

    def parameter_groups(self, model: PreTrainedModel) -> list[ParameterGroup]:
        """Group the parameters of the head by whether they decay (matrices do, biases and norms do not)."""
        return by_decay(model, head_parameters(model) or vocabulary_parameters(model))
