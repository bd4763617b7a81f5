"""All weights move, lower layers optionally slower."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from graftlm.config import Config
from graftlm.strategies._strategy import ParameterGroup

# The list of blocks as the model families call it: bert.encoder.layer.3, model.layers.3, transformer.h.3, block.3
_BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


class Full(Config):
    """Fine-tune everything: ``rate(layer l of L) = learning_rate * layer_decay ** (L + 1 - l)``.

    The head is layer L + 1 (full rate), the embeddings are layer 0 (Clark et al. 2020, ELECTRA, appendix A).
    """

    name: ClassVar[str] = "full"
    learning_rate: ClassVar[float] = 1e-4

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor on the learning rate from each layer to the one below it; 1 gives all layers the same."""

    def adapt(self, model: nn.Module, new: Sequence[str], seed: int) -> None:
        """Leave the network as it is: all of it is there."""

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Group the parameters by depth and by whether they decay (matrices do, biases and norms do not)."""
        parameters = dict(model.named_parameters())
        depths = _depths(list(parameters), body=str(getattr(model, "base_model_prefix", "")))
        top = max(depths.values())
        groups: dict[tuple[int, bool], list[str]] = {}
        for name, parameter in parameters.items():
            groups.setdefault((depths[name], parameter.ndim >= 2), []).append(name)
        if self.layer_decay == 1.0:  # one speed: two groups, as everybody reads them
            merged: dict[tuple[int, bool], list[str]] = {}
            for (_, decayed), names in groups.items():
                merged.setdefault((top, decayed), []).extend(names)
            groups = merged
        return [
            ParameterGroup(tuple(names), self.layer_decay ** (top - depth), decayed)
            for (depth, decayed), names in sorted(groups.items(), key=lambda item: item[0])
        ]


def _depths(names: list[str], body: str) -> dict[str, int]:
    """Return 0 for embeddings, 1..L for blocks, L for what follows them in the body, L + 1 for the head."""
    blocks = {name: int(match[1]) + 1 for name in names if (match := _BLOCK.search(name))}
    top = max(blocks.values(), default=0)
    first_block = names.index(next(iter(blocks))) if blocks else len(names)
    depths: dict[str, int] = {}
    for position, name in enumerate(names):
        if body and not name.startswith(f"{body}."):
            depths[name] = top + 1
        else:
            depths[name] = blocks.get(name, 0 if position < first_block else top)
    return depths
