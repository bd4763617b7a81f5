"""Does a network compute the same flat as padded? Asked of each model when it is loaded, never assumed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from graftlm.kernels.keys import example_keys
from graftlm.models.flat.execution import install, is_flat, refuse_recomputing
from graftlm.models.flat.first_tokens import install_first_tokens
from graftlm.models.flat.layout import Layout
from graftlm.models.flat.passes import NotFlat, current_pass, laid_flat
from graftlm.models.generator import networks

LENGTHS = (5, 1, 9, 3)
"""Tokens of the texts that are tried; one more reaches beyond a window of attention where there is a short one."""
LONGEST_WINDOW = 256
TOLERANCE = 1e-4
"""Of outputs, relative to the largest: rounding stays far below it, and a token that sees what it should not, or does
not see what it should, far above."""
_LOGITS = ("logits", "prediction_logits", "seq_relationship_logits", "sop_logits")
_WRITTEN = "decoder_attention_mask"
GRADIENT_TOLERANCE, ROUNDING = 1e-3, 1e-6
"""Of the gradient of one weight, relative to its norm and to that of all gradients together."""


def make_flat(model: PreTrainedModel, gradients: bool = True) -> str:
    """Let the model work flat where it then computes the same; return why not, or nothing.

    A batch of random tokens goes through the model padded and flat. Outputs are compared, and the gradients of every
    weight that is trained. Where anything differs, the model is left as it was. One that works flat is tried once more,
    with its last layer computed for first tokens only; where its head reads others it computes all.

    A generator beside the model is tried with it, and works likewise. A model that works flat already is tried as it is
    by now: it may have been given adapters since.

    Args:
        model: with its head, in float32.
        gradients: whether it will be trained.
    """
    if model.device.type not in ("cpu", "cuda"):
        # Nobody has looked whether the rest of torch that this needs is there.
        return f"on {model.device.type} that is untried"
    if gradients and any(getattr(module, "layerdrop", 0.0) for module in model.modules()):
        return "it leaves out whole layers at random (layerdrop)"
    if is_flat(model):
        return _try(_installed, model, gradients)
    reason = _try(_install, model, gradients)
    if not reason:
        _try(install_first_tokens, model, gradients)
    return reason


def _install(model: PreTrainedModel) -> Callable[[], None]:
    """Let all networks of a model work flat; return what undoes it."""
    with ExitStack() as undoing:
        # The generator first: exchanging the attention of a model exchanges that of what stands beside it.
        for network in networks(model):
            undoing.callback(install(network))
        return undoing.pop_all().close


def _installed(model: PreTrainedModel) -> Callable[[], None]:
    """Change nothing in a model that works flat, unless it has been told since what cannot go with that."""
    refuse_recomputing(model)
    return lambda: None


def _try(
    change: Callable[[PreTrainedModel], Callable[[], None]], model: PreTrainedModel, gradients: bool
) -> str:
    """Make a change to the model where it then still computes the same; return why not, or nothing."""
    try:
        undo = change(model)
    except NotFlat as reason:
        return str(reason)
    try:
        difference = _compare(model, gradients)
    except Exception as error:  # whatever a family does that we do not know: it works as before
        undo()
        return f"{type(error).__name__}: {error}" if not isinstance(error, NotFlat) else str(error)
    if difference:
        undo()
    return difference


def _compare(model: PreTrainedModel, gradients: bool) -> str:
    inputs = random_batch(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad] if gradients else []
    with torch.set_grad_enabled(bool(trained)), _mode(model, training=False):
        usual, flat = _outputs(model, inputs), _flat_outputs(model, inputs, None)
        if not all(_alike(*pair) for pair in zip(usual, flat, strict=True)):
            return "its outputs differ when padding is left out"
        if not trained:
            return ""
        one, other = (
            torch.autograd.grad(_weighed(outputs), trained, allow_unused=True, materialize_grads=True)
            for outputs in (usual, flat)
        )
    norms = torch.stack([each.norm() for each in one])
    apart = torch.stack([(first - second).norm() for first, second in zip(one, other, strict=True)])
    # Each weight by itself: in a network that is not trained yet, what attention learns is a small part of the whole.
    if not bool((apart <= GRADIENT_TOLERANCE * norms + ROUNDING * norms.norm()).all()):
        return "its gradients differ when padding is left out"
    return "" if _drops_by_example(model, inputs) else "what it drops depends on the batch"


@torch.no_grad()
def _drops_by_example(model: PreTrainedModel, inputs: dict[str, Tensor]) -> bool:
    """Whether dropout is the same for an example by itself as in a batch, wherever torch's generator stands."""
    examples = len(inputs["input_ids"])
    keys = example_keys(0, 0, np.arange(examples))
    with torch.random.fork_rng(devices=[]), _mode(model, training=True):
        whole = _flat_outputs(model, inputs, keys)
        parts = [
            _flat_outputs(model, {name: values[[row]] for name, values in inputs.items()}, keys[[row]])
            for row in range(examples)
        ]
    return all(_alike(each, torch.cat(pieces)) for each, *pieces in zip(whole, *parts, strict=True))


def _weighed(outputs: list[Tensor]) -> Tensor:
    """Return a sum in which every output counts, each otherwise."""
    sums = [(torch.linspace(-1.0, 1.0, each.numel(), device=each.device) * each).sum() for each in outputs]
    return torch.stack(sums).sum()


@torch.no_grad()
def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether outputs differ by rounding only; what is not a number is like nothing."""
    return float((one - other).abs().max()) <= TOLERANCE * max(1.0, float(one.abs().max()))


def _flat_outputs(
    model: PreTrainedModel, inputs: dict[str, Tensor], keys: NDArray[np.uint64] | None
) -> list[Tensor]:
    target = Layout.of(inputs[_WRITTEN], model.device) if _WRITTEN in inputs else None
    with laid_flat(Layout.of(inputs["attention_mask"], model.device), keys, target=target):
        outputs, current = _outputs(model, inputs), current_pass()
    # Else it has worked padded, and would do so when asked for some tokens.
    if current is None or not current.entered:
        raise NotFlat("its head calls parts of its body, not the body itself")
    return outputs


def _outputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Return what each head of each network says, of real tokens only, in one row."""
    found: list[Tensor] = []
    inputs = {name: values.to(model.device) for name, values in inputs.items()}
    for network in networks(model):
        result = network(**inputs, use_cache=False) if _WRITTEN in inputs else network(**inputs)
        if "start_logits" in result:
            found.append(torch.stack([result["start_logits"], result["end_logits"]], dim=-1))
        else:  # a head for tokens of the vocabulary and one for pairs, or a single one
            found += [result[name] for name in _LOGITS if name in result]
    if not found:
        raise NotFlat("nobody knows what it says: its outputs are none of a head of transformers")
    real = inputs.get(_WRITTEN, inputs["attention_mask"]).bool()
    return [(each[real] if each.shape[:2] == real.shape else each).flatten() for each in found]


def random_batch(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return random tokens of a few lengths, padded on the right; no generator of the caller's is touched."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or getattr(config, "local_attention", None) or 0
    lengths = [*LENGTHS, window + 3] if 0 < window <= LONGEST_WINDOW else [*LENGTHS]
    random = np.random.default_rng(0)
    padding = config.pad_token_id
    ids = random.integers(0, config.vocab_size, size=(len(lengths), max(lengths)))
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]
    fill = 0 if padding is None else padding
    ids = np.where(real, np.where(ids == fill, (fill + 1) % config.vocab_size, ids), fill)
    batch = {"input_ids": ids, "attention_mask": real.astype(np.int64)}
    if getattr(config, "type_vocab_size", 0) > 1:
        batch["token_type_ids"] = np.where(real, random.integers(0, 2, size=ids.shape), 0)
    if config.is_encoder_decoder:  # what is written has lengths of its own
        batch["decoder_input_ids"], batch[_WRITTEN] = ids[::-1].copy(), batch["attention_mask"][::-1].copy()
    return {name: torch.from_numpy(values) for name, values in batch.items()}


@contextmanager
def _mode(model: nn.Module, training: bool) -> Generator[None]:
    """Switch dropout on or off inside the block."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
