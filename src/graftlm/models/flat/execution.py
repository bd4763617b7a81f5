"""How a network of transformers is brought to work on flat tokens, without rewriting any.

The body of a model is called with a padded batch, as ever. Hooks on it take the padding out of what goes in and put it
back into what comes out, so that heads see what they always saw. In between, every layer works on ``[1, tokens,
features]``; attention, the only place where tokens meet, goes through the attention interface of transformers, where
ours keeps the examples apart. Outside a forward pass that was `laid_flat` the model behaves as if nothing had been done
to it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from graftlm.kernels.attention import variable_length_attention
from graftlm.kernels.dropout import keyed_dropout
from graftlm.models.base_model import quiet_transformers
from graftlm.models.flat.layout import DropoutKeys, Layout

NAME = "graftlm_flat"
_SAME = "sdpa"
"""What is called outside a flat pass, and what a model must use before it may be brought to work flat."""
# What families hand to attention that changes nothing for us: it says where tokens stand, which the layout does, or
# describes a cache, which a flat pass has not.
_IDLE = frozenset({"position_ids", "cache_position", "use_cache", "output_attentions", "deterministic"})


class NotFlat(Exception):
    """This network asks for something that flat execution does not give."""


@dataclass
class _Pass:
    """One forward pass. ``inside`` the body values are flat, before and behind it padded."""

    layout: Layout
    dropout: DropoutKeys | None
    read: Tensor | None
    inside: bool = False
    windows: set[int | None] = field(default_factory=set[int | None])
    """How far the masks reach that the family asked for, and that are not made: None where a token sees all."""


_current: ContextVar[_Pass | None] = ContextVar("graftlm_flat_pass", default=None)


def install(model: PreTrainedModel) -> Callable[[], None]:
    """Let the model work flat in passes that are `laid_flat`; return what undoes it.

    Raises:
        NotFlat: the family is not built for it. That it computes the same is for `graftlm.models.flat.probe` to show.
    """
    before = model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]
    if model.config.is_encoder_decoder:
        raise NotFlat("its encoder and decoder would need layouts of their own")
    if before != _SAME:
        raise NotFlat(f"its attention is {before}, not the interface of transformers")
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise NotFlat("it computes layers a second time, after the pass")
    body: Any = model.base_model
    offset = _first_position(body)
    names = list(inspect.signature(body.forward).parameters)

    def enter(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Take the padding out of the arguments, however they were given."""
        current = _current.get()
        if current is None:
            return None
        given = {**dict(zip(names, args, strict=False)), **keywords}
        current.inside = True
        return (), _flat_inputs(given, current.layout, names, offset)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Put the padding back, or hand on the tokens that the head reads."""
        current = _current.get()
        if current is None:
            return None
        current.inside = False
        hidden = output["last_hidden_state"]
        if current.read is not None:
            output["last_hidden_state"] = hidden.index_select(1, current.read)
            return output
        output["last_hidden_state"] = hidden = current.layout.padded(hidden)
        if output.get("pooler_output") is not None:
            output["pooler_output"] = _pooled(module, hidden)
        return output

    with quiet_transformers():
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:  # pyright: ignore[reportPrivateUsage]
        raise NotFlat("this version of transformers cannot exchange its attention")
    handles: list[RemovableHandle] = [
        body.register_forward_pre_hook(enter, with_kwargs=True),
        body.register_forward_hook(leave),
    ]
    model._graftlm_flat = True  # pyright: ignore

    def undo() -> None:
        for handle in handles:
            handle.remove()
        model.set_attn_implementation(before)
        model._graftlm_flat = False  # pyright: ignore

    return undo


def is_flat(model: nn.Module) -> bool:
    """Whether the model works flat in passes that are `laid_flat`."""
    return bool(getattr(model, "_graftlm_flat", False))


@contextlib.contextmanager
def laid_flat(
    layout: Layout, examples: NDArray[np.uint64] | None, read: Tensor | None = None
) -> Generator[None]:
    """Let a forward pass of an `install`-ed model inside the block work flat.

    Args:
        layout: of its batch.
        examples: keys of the examples for dropout, uint64 [examples]; None where nothing is dropped.
        read: the head gets these tokens only, as one row: their numbers among all tokens, int64. For heads that answer
            for each token and are dear, as the projection onto a vocabulary. None gives it padded examples.
    """
    dropout = None if examples is None else DropoutKeys(examples, layout)
    token = _current.set(_Pass(layout, dropout, read))
    try:
        with contextlib.nullcontext() if dropout is None else _KeyedDropout():
            yield
    finally:
        _current.reset(token)


class _KeyedDropout(TorchFunctionMode):
    """Dropout of any layer, module or function call, by the keys of the pass instead of a generator's next numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.dropout:
            return _drop(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _drop(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    current = _current.get()
    assert current is not None
    assert current.dropout is not None
    if not training or p == 0.0:
        return input
    bases = current.dropout.of_tokens() if current.inside else current.dropout.of_values(input.shape)
    return keyed_dropout(input, bases, p)


def _flat_inputs(
    given: dict[str, Any], layout: Layout, accepted: Sequence[str], first_position: int
) -> dict[str, Any]:
    """Return the arguments of the body with the padding taken out."""
    inputs: dict[str, Any] = {}
    for name, value in given.items():
        if name == "attention_mask" or value is None:
            continue
        padded = isinstance(value, Tensor) and value.shape[:2] == layout.shape
        inputs[name] = layout.flat(value) if padded else value
    if "position_ids" in accepted:
        inputs["position_ids"] = layout.positions[None] + first_position
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return inputs


def _first_position(body: nn.Module) -> int:
    """Return the number of a text's first position: families like RoBERTa count from behind the pad token."""
    tables = (
        module
        for name, module in body.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    )
    table = next(tables, None)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _pooled(body: Any, hidden: Tensor) -> Tensor:
    """Return what the body makes of the first token of each example; in its forward pass it saw one example only."""
    if isinstance(body.pooler, nn.Linear):  # ALBERT
        return body.pooler_activation(body.pooler(hidden[:, 0]))
    return body.pooler(hidden)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of [1, heads, tokens, features] within each example; outside a flat pass that of torch."""
    current = _current.get()
    if current is None or not current.inside:
        usual: Any = AttentionInterface()[_SAME]
        return usual(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
        )  # fmt: skip
    window = options.pop("sliding_window", None)
    if not _masked_alike(window, current.windows):
        raise NotFlat(f"its attention has the window {window}, its masks {sorted(map(str, current.windows))}")
    asked = {name for name, value in options.items() if value is not None and name not in _IDLE}
    if asked:
        raise NotFlat(f"its attention is given {', '.join(sorted(asked))}")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    bases = None
    if dropout:
        if current.dropout is None:
            raise NotFlat("its attention drops though nothing else does")
        bases = current.dropout.of_tokens()
    query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
    if torch.is_autocast_enabled(query.device.type):  # as torch does it before its own attention
        narrow = torch.get_autocast_dtype(query.device.type)
        query, key, value = (each.to(narrow) for each in (query, key, value))
    found = variable_length_attention(
        query, key, value, current.layout.starts,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=causal, window=window, dropout=dropout, bases=bases,
    )  # fmt: skip
    return found[None], None


def _masked_alike(window: int | None, masks: set[int | None]) -> bool:
    """Whether attention is told of a window exactly where the masks that were asked for have one.

    Some families keep a window in the mask alone, others name one that their masks have not. Where they count its ends
    differently by one, the probe decides.
    """
    if window is None:
        return None in masks or not masks
    return any(size is not None and abs(size - window) <= 1 for size in masks)


def _mask(*args: Any, local_size: int | None = None, **options: Any) -> Tensor | None:
    """No mask in a flat pass: the layout keeps examples apart, and attention its window."""
    current = _current.get()
    if current is None or not current.inside:
        return sdpa_mask(*args, local_size=local_size, **options)
    current.windows.add(local_size)
    return None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
