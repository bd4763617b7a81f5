"""How a network of transformers is brought to work on flat tokens, without rewriting any.

The body of a model is called with a padded batch, as ever. Hooks on it take the padding out of what goes in and put it
back into what comes out, so that heads see what they always saw. In between, every layer works on ``[1, tokens,
features]``; attention, the only place where tokens meet, goes through the attention interface of transformers, where
ours keeps the examples apart. Outside a forward pass that was `laid_flat` the model behaves as if nothing had been done
to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from graftlm.models.base_model import quiet_transformers
from graftlm.models.flat.attention import NAME, USUAL
from graftlm.models.flat.layout import Layout
from graftlm.models.flat.passes import NotFlat, current_pass
from graftlm.models.flat.positions import hook_positions

_READ = "encoder_hidden_states"


def install(model: PreTrainedModel) -> Callable[[], None]:
    """Let the model work flat in passes that are `laid_flat`; return what undoes it.

    Raises:
        NotFlat: the family is not built for it. That it computes the same is for `graftlm.models.flat.probe` to show.
    """
    before = model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]
    if before != USUAL:
        raise NotFlat(f"its attention is {before}, not the interface of transformers")
    refuse_recomputing(model)
    parts = _parts(model)
    with quiet_transformers():
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:  # pyright: ignore[reportPrivateUsage]
        raise NotFlat("this version of transformers cannot exchange its attention")
    handles: list[RemovableHandle] = []
    for module, part in parts:
        handles += [
            module.register_forward_pre_hook(part.enter, with_kwargs=True),
            module.register_forward_hook(part.leave),
        ]
        for positions in _computed_positions(module):
            handles += hook_positions(positions)
    if model.config.is_encoder_decoder:
        body: Any = model.base_model
        handles.append(body.register_forward_hook(_pad_what_was_read))
    model._graftlm_flat = True  # pyright: ignore

    def undo() -> None:
        for handle in handles:
            handle.remove()
        model.set_attn_implementation(before)
        model._graftlm_flat = False  # pyright: ignore

    return undo


def refuse_recomputing(model: nn.Module) -> None:
    """Refuse gradient checkpointing.

    Raises:
        NotFlat: it is switched on.
    """
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise NotFlat("it computes layers a second time, after the pass")


def is_flat(model: nn.Module) -> bool:
    """Whether the model works flat in passes that are `laid_flat`."""
    return bool(getattr(model, "_graftlm_flat", False))


@dataclass(frozen=True)
class _Part:
    """The hooks on a body, or on the encoder and the decoder of one.

    Args:
        role: ``body``, ``encoder`` or ``decoder``.
        accepted: names of the arguments of its forward pass.
        first_position: number of a text's first position.
    """

    role: str
    accepted: tuple[str, ...]
    first_position: int

    @classmethod
    def of(cls, module: nn.Module, role: str) -> _Part:
        return cls(role, tuple(inspect.signature(module.forward).parameters), _first_position(module))

    def enter(self, _: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Take the padding out of the arguments, however they were given."""
        current = current_pass()
        if current is None:
            return None
        if self.role == "decoder":
            current.begin_target()
        given = {**dict(zip(self.accepted, args, strict=False)), **keywords}
        current.inside = current.entered = True
        return (), self._flat_inputs(given, current.layout)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Put the padding back, or hand on the tokens that the head reads: some, or first ones, [examples, 1, ...]."""
        current = current_pass()
        if current is None:
            return None
        current.inside = False
        if self.role == "encoder":  # only the decoder reads it
            return output
        hidden = output["last_hidden_state"]
        if current.read is not None:
            if output.get("pooler_output") is not None:
                first = hidden[0, current.layout.first][:, None]
                output["pooler_output"] = pooled(module, first)
            output["last_hidden_state"] = hidden.index_select(1, current.read)
            return output
        if current.last is not None:
            output["last_hidden_state"] = hidden = hidden.transpose(0, 1)
            current.last = None
        else:
            output["last_hidden_state"] = hidden = current.layout.padded(hidden)
        if output.get("pooler_output") is not None:
            output["pooler_output"] = pooled(module, hidden)
        return output

    def _flat_inputs(self, given: dict[str, Any], layout: Layout) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name, value in given.items():
            if name.endswith("attention_mask") or value is None:
                continue
            # What the encoder read arrives flat.
            padded = isinstance(value, Tensor) and value.shape[:2] == layout.shape and name != _READ
            inputs[name] = layout.flat(value) if padded else value
        if "position_ids" in self.accepted:
            inputs["position_ids"] = layout.positions[None] + self.first_position
        if "use_cache" in self.accepted:
            inputs["use_cache"] = False
        return inputs


def _pad_what_was_read(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
    """Put the padding back into what the encoder made, which the decoder has read by now."""
    current, name = current_pass(), "encoder_last_hidden_state"
    if current is not None and current.source is not None and isinstance(output, dict) and name in output:
        output[name] = current.source.padded(output[name])
    return output


def _parts(model: PreTrainedModel) -> list[tuple[nn.Module, _Part]]:
    """Return the modules that lie between padded values, in the order in which they work."""
    body: Any = model.base_model
    if not model.config.is_encoder_decoder:
        decoder = getattr(body, "decoder", None)
        if isinstance(decoder, nn.Module):  # of OPT: its head calls it, past the body
            body = decoder
        return [(body, _Part.of(body, "body"))]
    if not model.can_generate():
        raise NotFlat("its decoder makes up what it is given")
    return [
        (module, _Part.of(module, role))
        for role in ("encoder", "decoder")
        for module in [getattr(body, role)]
    ]


def _computed_positions(part: nn.Module) -> list[nn.Module]:
    """Return the modules of an encoder or decoder that count positions themselves, of the tokens they are shown."""
    return [
        module
        for name, module in part.named_children()
        if name == "embed_positions"
        and "past_key_values_length" in inspect.signature(module.forward).parameters
    ]


def _first_position(body: nn.Module) -> int:
    """Return the number of a text's first position: families like RoBERTa count from behind the pad token."""
    tables = (
        module
        for name, module in body.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    )
    table = next(tables, None)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def pooled(body: Any, hidden: Tensor) -> Tensor:
    """Return what the pooler of the body makes of the first token of each example, from [examples, tokens, features].

    In a flat forward pass it saw one example only.
    """
    if isinstance(body.pooler, nn.Linear):  # ALBERT
        return body.pooler_activation(body.pooler(hidden[:, 0]))
    return body.pooler(hidden)
