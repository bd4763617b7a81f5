"""One forward pass: what comes out of a model, whatever its head calls it."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn

from graftlm.data.features import IGNORED
from graftlm.models.flat.execution import is_flat
from graftlm.models.flat.layout import DropoutKeys, Layout
from graftlm.models.flat.passes import laid_flat
from graftlm.training.batching import Batch


def forward(model: nn.Module, batch: Batch, autocast: torch.dtype | None) -> Tensor:
    """Return the outputs [examples, outputs] or [examples, tokens, outputs] of a batch.

    A head for answers has two outputs a token: the scores of starting and of ending there. They compete over the
    tokens of an example, so where there is padding they are minus infinity: an objective needs no mask, and no example
    depends on its neighbours. (Heads of transformers let padding compete.)

    A decoder of its own reads the targets of the batch, one place later.

    Args:
        model: of transformers, with a head.
        batch: of examples.
        autocast: dtype of the forward pass, or None for float32.
    """
    result = _run(model, batch, autocast, _layout(model, batch), _target_layout(model, batch))
    return _outputs(result, batch)


def forward_laid(
    model: nn.Module, batch: Batch, autocast: torch.dtype | None, layout: Layout, dropout: DropoutKeys
) -> Tensor:
    """Return what `forward` does, of a model that works flat and writes nothing.

    Args:
        model, batch, autocast: see `forward`; of the batch only the inputs are looked at.
        layout: of the batch.
        dropout: what decides it.
    """
    return _outputs(_run(model, batch, autocast, layout, None, dropout), batch)


def forward_where_targets(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    dropout_keys: NDArray[np.uint64] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return outputs and the targets that they are compared with.

    As `forward` and the targets of the batch; but where a network says tokens of its vocabulary, only the outputs at
    places that have a target, [1, targets, vocabulary] and [1, targets]: a vocabulary is large.

    Args:
        model, batch, autocast: see `forward`.
        dropout_keys: of each example, see `graftlm.kernels.keys.example_keys`; None where nothing is dropped. A
            model that works padded drops by torch's generator instead.
    """
    result, targets = result_where_targets(model, batch, autocast, dropout_keys)
    return _outputs(result, batch), targets


def result_where_targets(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    dropout_keys: NDArray[np.uint64] | None = None,
) -> tuple[Any, Tensor]:
    """Return all that the model says, and the targets; see `forward_where_targets`."""
    assert batch.targets is not None
    layout, target = _layout(model, batch), _target_layout(model, batch)
    if not batch.written:
        return _run(model, batch, autocast, layout, target, dropout_keys), batch.targets
    if layout is not None:
        targets = (target or layout).flat(batch.targets)[0]
        read = (targets != IGNORED).nonzero().squeeze(1)
        result = _run(model, batch, autocast, layout, target, dropout_keys, read)
    else:
        targets = batch.targets.flatten()
        read = (targets != IGNORED).nonzero().squeeze(1)
        with _reading(model, read):
            result = _run(model, batch, autocast, None, None)
        name = "prediction_logits" if hasattr(result, "prediction_logits") else "logits"
        if result[name].shape[1] != len(read):  # its head cannot be told apart from its body
            result[name] = result[name].flatten(0, 1)[read][None]
    return result, targets[read][None]


@contextlib.contextmanager
def _reading(model: nn.Module, read: Tensor) -> Generator[None]:
    """Let the head, inside the block, get these tokens only, as one row: a projection onto a vocabulary is dear.

    Args:
        model: of transformers, on padded batches.
        read: numbers of tokens in the batch, row after row.
    """
    bare: Any = extract_model_from_parallel(model)

    own = threading.get_ident()

    def select(_: nn.Module, __: Any, output: Any) -> Any:
        # Another thread may ask the same model meanwhile; its tokens are others.
        if threading.get_ident() != own:
            return None
        if hasattr(output, "last_hidden_state"):
            output["last_hidden_state"] = output["last_hidden_state"].flatten(0, 1)[read][None]
        return output

    handle = None if bare.base_model is bare else bare.base_model.register_forward_hook(select)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _run(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    layout: Layout | None,
    target: Layout | None,
    dropout_keys: NDArray[np.uint64] | DropoutKeys | None = None,
    read: Tensor | None = None,
) -> Any:
    inputs = batch.inputs
    with (
        torch.autocast(inputs["input_ids"].device.type, dtype=autocast, enabled=autocast is not None),
        laid_flat(layout, dropout_keys, read, target) if layout is not None else contextlib.nullcontext(),
    ):
        return model(**inputs, **_decoder_inputs(model, batch), **_without_cache(model))


def _without_cache(model: nn.Module) -> dict[str, bool]:
    """Return what tells a decoder to keep no keys for tokens to come: nothing is written here."""
    bare: Any = extract_model_from_parallel(model)
    head, body = (inspect.signature(each.forward).parameters for each in (bare, bare.base_model))
    handed_on = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in head.values())
    return {"use_cache": False} if "use_cache" in head or ("use_cache" in body and handed_on) else {}


def _outputs(result: Any, batch: Batch) -> Tensor:
    if hasattr(result, "start_logits"):
        both = torch.stack([result.start_logits, result.end_logits], dim=-1)
        return both.masked_fill(batch.inputs["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
    return result.logits


def _writes(batch: Batch) -> bool:
    """Whether a text is to be written, and not a class or a number to be told."""
    return batch.written and batch.targets is not None


def _layout(model: nn.Module, batch: Batch) -> Layout | None:
    """Return the layout of what is read, where the model works flat."""
    bare: Any = extract_model_from_parallel(model)
    # Without a text to write, a decoder of its own makes up what it is given.
    flat = is_flat(bare) and (_writes(batch) or not bare.config.is_encoder_decoder)
    return Layout.of(batch.real, batch.inputs["input_ids"].device) if flat else None


def _target_layout(model: nn.Module, batch: Batch) -> Layout | None:
    """Return the layout of what a decoder of its own writes."""
    bare: Any = extract_model_from_parallel(model)
    if not bare.config.is_encoder_decoder or not _writes(batch):
        return None
    assert batch.targets is not None
    return Layout.of((batch.targets != IGNORED).long().cpu(), batch.targets.device)


def _decoder_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    bare: Any = extract_model_from_parallel(model)
    if not bare.config.is_encoder_decoder or not _writes(batch):
        return {}
    assert batch.targets is not None
    # Begun as the model begins to write. The families' own methods are not asked: mBART's takes the last token of each
    # target to its front, which is right only where that names the language, so not where a text was cut.
    settings = bare.generation_config
    start = settings.decoder_start_token_id
    start = settings.bos_token_id if start is None else start
    begun = torch.cat([torch.full_like(batch.targets[:, :1], start), batch.targets[:, :-1]], dim=1)
    return {"decoder_input_ids": begun.masked_fill(begun == IGNORED, settings.pad_token_id)}
