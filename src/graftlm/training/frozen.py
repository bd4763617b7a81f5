"""A body that does not learn is run once for each example; after that its head reads what was kept on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from graftlm.errors import MissingResource
from graftlm.kernels.sending import sent
from graftlm.models.flat.execution import pooled
from graftlm.models.flat.passes import LastLayer, current_pass
from graftlm.models.heads import body_is_frozen
from graftlm.training.batching import Batch, Examples, prediction_batches
from graftlm.training.memory import SMALLER_BATCHES, memory_for
from graftlm.training.outputs import forward

# What a head makes of kept features may differ by this from what it makes of the body's own.
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
_SHARE_OF_DISK = 0.5


class NotKept(Exception):
    """The body of this network has to be run each time; the message says why."""


def set_training(model: nn.Module) -> None:
    """Switch dropout on; but a body of which nothing moves reads as in evaluation."""
    model.train()
    bare = extract_model_from_parallel(model)
    if isinstance(bare, PreTrainedModel) and body_is_frozen(bare):
        bare.base_model.eval()


class KeptFeatures:
    """What the body of a network says about each example, in place of the body.

    Args:
        model: whose body they are of.
        output: class of what the body returns.
        first_tokens: whether only the first token of each example is kept.
        values: [kept tokens, features] in float32.
        starts: where the tokens of each example begin in ``values``, [examples].
        counts: how many it has there, [examples].
    """

    def __init__(
        self,
        model: PreTrainedModel,
        output: type[Any],
        first_tokens: bool,
        values: NDArray[np.float32],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        self._body: Any = model.base_model
        self._output, self._first_tokens, self._values = output, first_tokens, values
        self._starts, self._counts = starts, counts

    @contextmanager
    def reading(self, batch: Batch) -> Generator[None]:
        """Let the body, inside the block, answer for this batch with what was kept instead of being run."""
        parts = [
            self._values[self._starts[row] : self._starts[row] + self._counts[row]] for row in batch.rows
        ]
        device = batch.inputs["input_ids"].device
        kept = sent(torch.from_numpy(np.concatenate(parts)), device)

        def answer(*_: Any, **__: Any) -> Any:
            return self._answer(kept, batch)

        self._body.forward = answer
        try:
            yield
        finally:
            del self._body.forward  # that of the class is found again

    def _answer(self, kept: Tensor, batch: Batch) -> Any:
        current = current_pass()
        if current is not None:  # behind the body stands what puts the padding back, and pools
            if self._first_tokens:
                current.last = LastLayer(kept[None], kept[None])
            hidden = kept[None]
            pool = hidden
        else:
            real = batch.inputs["attention_mask"].bool()
            hidden = kept[:, None] if self._first_tokens else kept.new_zeros(*real.shape, kept.shape[-1])
            if not self._first_tokens:
                hidden[real] = kept
            pool = pooled(self._body, hidden) if _has_pooler(self._body) else None
        return self._output(
            last_hidden_state=hidden, **({"pooler_output": pool} if _has_pooler(self._body) else {})
        )


def keep_features(
    model: PreTrainedModel,
    examples: Examples,
    batch_tokens: int,
    device: torch.device,
    autocast: torch.dtype | None,
    folder: Path,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> KeptFeatures:
    """Run the body once over all examples, always in the same batches, and keep what the head reads of it.

    It lies in a file without a name, which is gone with the process. Of heads that read one token, only that is kept.

    Args:
        model: with a frozen body.
        examples: that the head will be trained on.
        batch_tokens: most tokens of a forward pass, padding included.
        device: of the model.
        autocast: dtype of the forward pass, or None for float32.
        folder: where there is room for the file.
        on_batch: told how many examples each batch had.

    Raises:
        NotKept: head and body cannot be separated, or the disk is too small.
        MissingResource: the disk is full.
    """
    if examples.written:
        raise NotKept("a network that writes is not body and head")
    body: Any = model.base_model
    if body is model:
        raise NotKept("it has no body of its own")
    model.eval()
    batches = list(prediction_batches(examples.lengths, batch_tokens))
    output, first_tokens = _try_kinds(model, examples.batch(batches[0], device), autocast)
    counts = np.ones(len(examples), dtype=np.int64) if first_tokens else examples.lengths
    starts, width, tokens = np.zeros(len(examples), dtype=np.int64), 0, 0
    with tempfile.TemporaryFile(dir=folder) as file:
        for rows in batches:
            place = f"features, batch of {len(rows)} x {examples.lengths[rows].max()} tokens"
            with memory_for(place, SMALLER_BATCHES):
                _, _, hidden = _run(model, examples.batch(rows, device), autocast)
            values = _kept(hidden, examples.batch(rows, device), first_tokens)
            if not width:
                width = values.shape[1]
                _check_room(int(counts.sum()) * width * 4, folder)
            starts[rows] = tokens + np.cumsum(counts[rows]) - counts[rows]
            tokens += len(values)
            try:
                file.write(values.tobytes())
            except OSError as error:
                raise MissingResource(
                    f"the features of the body cannot be written: {error.strerror}",
                    where=str(folder),
                    fix="free disk space",
                ) from None
            on_batch(len(rows))
        file.flush()
        values = np.memmap(file, dtype=np.float32, mode="r", shape=(tokens, width))
    return KeptFeatures(model, output, first_tokens, values, starts, counts)


def _try_kinds(model: PreTrainedModel, batch: Batch, autocast: torch.dtype | None) -> tuple[type[Any], bool]:
    """Return the class of the body's output, and whether first tokens suffice; what differs then is not kept."""
    usual, output, hidden = _run(model, batch, autocast)
    lengths = batch.real.sum(dim=1).numpy()
    for first_tokens in (True, False):
        values = _kept(hidden, batch, first_tokens)
        counts = np.ones_like(lengths) if first_tokens else lengths
        trial = KeptFeatures(model, output, first_tokens, values, np.cumsum(counts) - counts, counts)
        numbered = Batch(batch.inputs, batch.targets, np.arange(len(lengths)), batch.real)
        try:
            with torch.inference_mode(), trial.reading(numbered):
                found = forward(model, batch, autocast)
        except Exception:  # heads of families that we do not know raise whatever they like
            continue
        if found.shape == usual.shape and _alike(usual, found, batch):
            return output, first_tokens
    raise NotKept("its head reads more than the last layer of its body")


def _run(
    model: PreTrainedModel, batch: Batch, autocast: torch.dtype | None
) -> tuple[Tensor, type[Any], Tensor]:
    """Return outputs, and class and last layer of what the body said, [examples, 1 or width, features]."""
    caught: list[Any] = []

    def catch(_: nn.Module, __: Any, output: Any) -> None:
        caught.append(output)

    handle = model.base_model.register_forward_hook(catch)
    try:
        with torch.inference_mode():
            outputs = forward(model, batch, autocast)
    finally:
        handle.remove()
    hidden = getattr(caught[0], "last_hidden_state", None) if len(caught) == 1 else None
    if hidden is None:
        raise NotKept("its body does not tell its last layer")
    return outputs, type(caught[0]), hidden.float()


def _kept(hidden: Tensor, batch: Batch, first_tokens: bool) -> NDArray[np.float32]:
    """Return [kept tokens, features] of a batch, example after example."""
    if first_tokens or hidden.shape[1] != batch.real.shape[1]:
        return hidden[:, 0].cpu().numpy()
    return hidden.cpu()[batch.real.bool()].numpy()


def _alike(one: Tensor, other: Tensor, batch: Batch) -> bool:
    real = batch.inputs["attention_mask"].bool()
    if one.dim() == 3:
        one, other = one[real], other[real]
    return torch.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE)


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > _SHARE_OF_DISK * free:
        raise NotKept(f"its features would take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")


def _has_pooler(body: nn.Module) -> bool:
    return getattr(body, "pooler", None) is not None
