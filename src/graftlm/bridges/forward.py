"""The forward pass of a user's model within our loop: without padding where it can be, from whatever calls it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from graftlm.data.features import IGNORED
from graftlm.errors import DataError
from graftlm.kernels.keys import Keys, example_keys
from graftlm.kernels.library import said_of_missing
from graftlm.models.flat.layout import Layout
from graftlm.models.flat.passes import laid_flat
from graftlm.models.flat.probe import make_flat

log = logging.getLogger("graftlm")

# What a batch may hold for a pass to be laid flat. With anything else, such as positions of its own or embeddings, a
# model computes as it would without us.
_KNOWN = frozenset({
    "input_ids", "attention_mask", "token_type_ids", "labels", "shift_labels", "start_positions", "end_positions",
    "num_items_in_batch", "next_sentence_label",
})  # fmt: skip
_TOLD_LAYERS = ("output_hidden_states", "output_attentions")


class _Padded(Exception):
    """This pass cannot be laid flat; the message says why."""


class Forward:
    """The forward pass of one model, in training and evaluation.

    Who calls the model, with which part of a batch and how often is free: the arguments of each call say whether it can
    be laid flat. Where answers are marked padding never competes, as in `graftlm.training.outputs`.

    Args:
        model: of transformers, perhaps within adapters; or any other module, which computes as it always does.
        autocast: makes the context of each pass, which sets its precision.
    """

    def __init__(self, model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self.model = model
        self._inner, self._autocast = without_adapters(model), autocast
        self._never = (
            make_flat(self._inner)
            if isinstance(self._inner, PreTrainedModel)
            else "it is not a model of transformers"
        )
        self.padded_because = self._never
        self._key: tuple[int, int, range] | None = None
        self._passes = 0
        if self._never:
            log.warning("this model works on padded batches: %s", self._never)
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        for sentence in said_of_missing(device):
            log.warning("%s", sentence)

    @contextmanager
    def installed(self) -> Generator[None]:
        """Let the model compute our way inside the block, outside as if nothing had been done to it."""
        inner: Any = self._inner
        before, own = inner.forward, inner.__dict__.get("forward")

        @functools.wraps(before)
        def forward(*args: Any, **inputs: Any) -> Any:
            with self._autocast(), self._flat(args, inputs):
                return _real_answers(before(*args, **inputs), inputs)

        inner.forward = forward
        try:
            yield
        finally:
            if own is None:
                del inner.forward
            else:
                inner.forward = own

    @contextmanager
    def examples(self, seed: int, step: int, places: range) -> Generator[None]:
        """Key what passes inside the block drop by the places of the examples in the step."""
        self._key, self._passes = (seed, step, places), 0
        try:
            yield
        finally:
            self._key = None

    def _flat(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> AbstractContextManager[None]:
        if self._never:
            return nullcontext()
        try:
            return self._laid(args, {name: value for name, value in inputs.items() if value is not None})
        except _Padded as reason:
            if str(reason) != self.padded_because:
                log.warning("a pass of this model works on a padded batch: %s", reason)
            self.padded_because = str(reason)
            return nullcontext()

    def _laid(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> AbstractContextManager[None]:
        """Return what lays a pass flat.

        Raises:
            _Padded: it is none that we know.
        """
        config: Any = self._inner.config
        for name in _TOLD_LAYERS:
            if inputs.get(name, getattr(config, name, False)):
                raise _Padded(f"{name}, of which no padding is left out")
        known = _KNOWN | set(_TOLD_LAYERS) | ({"decoder_input_ids"} if config.is_encoder_decoder else set())
        if args or not inputs.keys() <= known:
            others = ", ".join(sorted(inputs.keys() - known)) or "arguments without a name"
            raise _Padded(f"the model is given {others}")
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if (
            not isinstance(ids, Tensor)
            or not isinstance(mask, Tensor)
            or ids.shape != mask.shape
            or mask.ndim != 2
        ):
            raise _Padded("the batch has no input_ids with an attention_mask [examples, tokens]")
        # Where padding stands on the left families number positions each in their own way.
        if not _behind(mask != 0):
            raise _Padded("its padding does not stand behind the tokens")
        if not config.is_encoder_decoder and _asks_padding(inputs, mask):
            raise _Padded("labels stand at its padding")
        target = _written(inputs, ids) if config.is_encoder_decoder else None
        keys = self._keys(len(ids)) if self.model.training else None
        if self.model.training and keys is None:
            raise _Padded("a pass in training is of other examples than those of the batch")
        return laid_flat(Layout.of(mask.cpu(), ids.device), keys, target=target)

    def _keys(self, examples: int) -> Keys | None:
        """Return what decides about dropout in the next pass over the examples; None if it is of others."""
        if self._key is None or examples != len(self._key[2]):
            return None
        seed, step, places = self._key
        self._passes += 1
        return example_keys(seed, step, places, forward_pass=self._passes - 1)


def _asks_padding(inputs: dict[str, Any], mask: Tensor) -> bool:
    """Whether a token that is padding has a label: flat, no network would compute what it says there."""
    labels = [inputs[name] for name in ("labels", "shift_labels") if isinstance(inputs.get(name), Tensor)]
    return any(each.shape == mask.shape and bool(((each != IGNORED) & (mask == 0)).any()) for each in labels)


def _behind(real: Tensor) -> bool:
    """Whether nothing that is real, bool [examples, tokens], stands behind what is not."""
    return bool((real[:, 1:] <= real[:, :-1]).all())


def _written(inputs: dict[str, Any], ids: Tensor) -> Layout:
    """Return the layout of what a decoder of its own writes: its labels.

    Raises:
        _Padded: they do not say where its tokens stand.
    """
    labels = inputs.get("labels")
    if not isinstance(labels, Tensor) or labels.ndim != 2 or not _behind(labels != IGNORED):
        raise _Padded(f"a decoder of its own needs labels [examples, tokens], {IGNORED} behind them only")
    given = inputs.get("decoder_input_ids")
    if given is not None and given.shape != labels.shape:
        raise _Padded("decoder_input_ids and labels are of different shapes")
    return Layout.of((labels != IGNORED).long().cpu(), ids.device)


def without_adapters(model: nn.Module) -> nn.Module:
    """Return the network inside the adapters of peft, which are part of it."""
    inside: Any = getattr(model, "get_base_model", None)
    return model if inside is None else inside()


def _real_answers(result: Any, inputs: dict[str, Any]) -> Any:
    """Take padding out of the competition for the start and the end of an answer, and out of the loss."""
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or not isinstance(result, dict) or "start_logits" not in result:
        return result
    losses: list[Tensor] = []
    for end in ("start", "end"):
        logits: Tensor = result[f"{end}_logits"]
        if logits.shape != mask.shape:
            return result
        # Not minus infinity: scripts add and subtract these scores.
        logits = logits.masked_fill(mask == 0, torch.finfo(logits.dtype).min)
        result[f"{end}_logits"] = logits
        positions = inputs.get(f"{end}_positions")
        if positions is not None:
            positions = positions.reshape(-1)
            inside = (positions >= 0) & (positions < mask.shape[1])
            inside &= mask.gather(1, positions.clamp(0, mask.shape[1] - 1)[:, None]).squeeze(1) != 0
            if not bool(inside.all()):
                row = int((~inside).nonzero()[0])
                raise DataError(
                    f"example {row} of a batch has an answer whose {end} is token {int(positions[row])}, which is not "
                    f"one of its {int(mask[row].sum())} tokens",
                    fix="mark answers that were cut off as having none, commonly with 0, or leave the example out",
                )
            losses.append(functional.cross_entropy(logits.float(), positions))
    if len(losses) == 2:
        result["loss"] = (losses[0] + losses[1]) / 2
    return result
