"""Low-rank adapters on the linear layers of a frozen body, and the whole head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from transformers import PreTrainedModel

from graftlm.config import Config
from graftlm.models.adapters import (
    LowRank,
    add_adapter,
    chosen_layers,
    head_modules,
    linear_layers,
    trained_parameters,
)
from graftlm.strategies._strategy import ParameterGroup, by_decay


class Lora(Config):
    """Freeze the body and train low-rank adapters on its linear layers, with the head (Hu et al. 2021, by peft).

    A body with adapters that were never trained computes what it did before, bit for bit.
    """

    name: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 5e-4

    target: Literal["all_linear"] | Annotated[list[str], Field(min_length=1)] = "all_linear"
    """Layers that get an adapter: all linear ones of the body, or those whose name ends so, as `[query, value]`."""

    rank: PositiveInt = 16
    """Rank of each adapter."""

    alpha: PositiveFloat = 32.0
    """What an adapter says is scaled by `alpha / rank`."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the features that adapters do not see in training."""

    rank_stabilised: bool = False
    """Scale by `alpha / sqrt(rank)` instead, for high ranks."""

    merge: bool = False
    """true saves a plain model, adapters merged into its weights; false saves adapters and head in peft's format."""

    def adapt(self, model: PreTrainedModel, new: Sequence[str], seed: int) -> None:
        """Put adapters drawn from the seed onto the chosen layers.

        Raises:
            ConfigurationError: ``target`` names a layer that is not there.
        """
        layers = linear_layers(model) if self.target == "all_linear" else chosen_layers(model, self.target)
        shape = LowRank(self.rank, self.alpha, self.dropout, self.rank_stabilised, self.merge)
        add_adapter(model, shape, layers, head_modules(model, new), seed)

    def parameter_groups(self, model: PreTrainedModel) -> list[ParameterGroup]:
        """Group adapters and head by whether they decay (matrices do, biases and norms do not)."""
        return by_decay(model, trained_parameters(model))
