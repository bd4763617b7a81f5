"""The last layer for the first tokens alone, where the head reads no others.

A head that gives a class to a text reads one token of it. Of all others the last layer needs keys and values only: no
query, no output, no feed-forward. In networks that normalise behind each sub-layer (BERT and its relatives) keys and
values are made of what the layer is given, so the layer may be given first tokens if these two get all of them. Where a
network is built otherwise, or its head reads more, `graftlm.models.flat.probe` sees other outputs or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from graftlm.models.flat.passes import LastLayer, NotFlat, current_pass

# What families call the projections, as the last part of their name.
_KEYS, _VALUES = ("key", "k_proj", "k_lin"), ("value", "v_proj", "v_lin")


def install_first_tokens(model: PreTrainedModel) -> Callable[[], None]:
    """Let the last layer of a flat model compute first tokens only; return what undoes it.

    Raises:
        NotFlat: there is no such layer. That it computes the same is for the probe to show.
    """
    layer = _last_layer(model)
    projections = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
    keys, values = (_only(projections, names) for names in (_KEYS, _VALUES))
    handles: list[RemovableHandle] = [
        layer.register_forward_pre_hook(_begin),
        keys.register_forward_pre_hook(_give_all),
        values.register_forward_pre_hook(_give_all),
        keys.register_forward_hook(_keep_keys),
        values.register_forward_hook(_keep_values),
    ]

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


def _begin(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    current = current_pass()
    # An example without tokens has no first one.
    if current is None or not current.inside or not current.layout.lengths.all():
        return None
    given: Tensor = arguments[0]
    first = given.index_select(1, current.layout.first)
    current.last = LastLayer(given, first)
    return first, *arguments[1:]


def _give_all(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    last = _layer_at_work()
    if last is None:
        return None
    if not _same(arguments[0], last.first):
        raise NotFlat("the keys of its last layer are not made of what the layer is given")
    return last.given, *arguments[1:]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one memory: a layer that is computed again gets what it was given as another object."""
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _keep_keys(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
    last = _layer_at_work()
    if last is None:
        return None
    last.keys = output
    return output.narrow(
        1, 0, last.first.shape[1]
    )  # of a shape that the family expects; attention takes the kept


def _keep_values(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
    last = _layer_at_work()
    if last is None:
        return None
    last.values = output
    return output.narrow(1, 0, last.first.shape[1])


def _layer_at_work() -> LastLayer | None:
    current = current_pass()
    return None if current is None else current.last


def _last_layer(model: PreTrainedModel) -> nn.Module:
    count = getattr(model.config, "num_hidden_layers", 0)
    stacks = [
        module
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == count > 0
    ]
    if len(stacks) != 1:
        raise NotFlat("which layer is its last is not plain to see")
    return stacks[0][-1]


def _only(modules: dict[str, nn.Module], names: tuple[str, ...]) -> nn.Module:
    found = [modules[name] for name in names if name in modules]
    if len(found) != 1:
        raise NotFlat(f"its last layer has no single {names[0]} projection")
    return found[0]
