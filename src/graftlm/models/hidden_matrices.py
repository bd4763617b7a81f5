"""Which parameters of a network are its hidden matrices: the linear maps inside its layers."""

from __future__ import annotations

from collections.abc import Sequence

from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from graftlm.models.adapters import linear_layers
from graftlm.models.generator import PREFIX, generator_of


def hidden_matrices(model: nn.Module) -> list[str]:
    """Return the names of the weights of all linear maps in the stacked layers of the body.

    They map features to features. Embeddings, positions that are learnt, heads, the pooler, norms and biases are not
    among them, nor are adapters, whose matrices are thin by intention. Those of a generator beside the network are. A
    network that is not of transformers has none that we know of.
    """
    if not isinstance(model, PreTrainedModel):
        return []
    stacks = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    adapters = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    own = [
        f"{name}.weight"
        for name in linear_layers(model)
        if _inside(name, stacks) and not _inside(name, adapters)
    ]
    generator = generator_of(model)
    return own if generator is None else [*own, *(PREFIX + name for name in hidden_matrices(generator))]


def _inside(name: str, modules: Sequence[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)
