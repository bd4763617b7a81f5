"""Layers that are computed again on the way back: the same numbers to the last bit, of less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import build
from tests.models.test_flat import LENGTHS, WRITTEN, lay_flat, random_batch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from graftlm.data.features import IGNORED
from graftlm.errors import ConfigurationError
from graftlm.kernels.keys import example_keys
from graftlm.models.flat.passes import Pass
from graftlm.models.gradient_checkpointing import checkpoint_layers
from graftlm.training.batching import Batch
from graftlm.training.outputs import forward_where_targets

DROPOUT = 0.1
FLAT = (
    ("Bert", "SequenceClassification"),  # whose last layer has the first tokens only
    ("Bert", "MaskedLM"), ("DistilBert", "TokenClassification"), ("ModernBert", "MaskedLM"),
    ("GPT2", "CausalLM"), ("Mistral", "CausalLM"), ("Bart", "Seq2SeqLM"), ("M2M100", "Seq2SeqLM"),
)  # fmt: skip
PADDED = (
    ("Bert", "MaskedLM"), ("DebertaV2", "MaskedLM"), ("GPT2", "CausalLM"), ("GPT2", "QuestionAnswering"),
    ("T5", "Seq2SeqLM"), ("Bart", "Seq2SeqLM"),
)  # fmt: skip


def batch_for(model: PreTrainedModel, head: str, seed: int) -> Batch:
    """Random tokens; a network that says tokens is asked for some of its input, another gets no targets that matter."""
    inputs = random_batch(seed)
    written = random_batch(seed + 1, WRITTEN) if model.config.is_encoder_decoder else inputs
    targets = written["input_ids"].masked_fill(written["attention_mask"] == 0, IGNORED)
    rows = np.arange(len(LENGTHS))
    return Batch(inputs, targets, rows, inputs["attention_mask"], written=head.endswith("LM"))


def trained(model: PreTrainedModel, head: str, seed: int, flat: bool) -> tuple[float, list[Tensor], int]:
    """Return the loss of a step, its gradients, and how many numbers were kept for the way back."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    keys = example_keys(seed, 1, np.arange(len(LENGTHS))) if flat else None
    batch = batch_for(model, head, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            found, _ = forward_where_targets(model.train(), batch, None, keys)
            finite = found.masked_fill(found.isinf(), 0.0)  # answers do not begin in padding
            loss = (finite * torch.linspace(-1.0, 1.0, found.numel()).view_as(found)).sum()
        torch.manual_seed(seed + 1)  # the way back begins elsewhere
        loss.backward()
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    gradients = [torch.zeros(0) if each.grad is None else each.grad for each in model.parameters()]
    return loss.item(), gradients, sum(size for place, size in kept.items() if place not in weights)


def both(family: str, head: str, seed: int, flat: bool) -> tuple[Any, Any]:
    """The same step with all that layers compute kept, and with layers computed again."""
    usual, checkpointed = (build(family, head, seed, dropout=DROPOUT) for _ in range(2))
    for model in (usual, checkpointed):
        if head == "Seq2SeqLM" and model.generation_config.decoder_start_token_id is None:
            model.generation_config.decoder_start_token_id = 0
    if flat:
        lay_flat(usual)
        lay_flat(checkpointed)
    checkpoint_layers(checkpointed)
    return trained(usual, head, seed, flat), trained(checkpointed, head, seed, flat)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # DeBERTa of transformers 5.3
@pytest.mark.parametrize(
    ("family", "head", "flat"), [(*each, True) for each in FLAT] + [(*each, False) for each in PADDED]
)
def test_numbers_are_the_same_of_less_memory(seed: int, family: str, head: str, flat: bool) -> None:
    (loss, gradients, kept), (again, found, kept_less) = both(family, head, seed, flat)
    assert again == loss
    assert all(torch.equal(one, other) for one, other in zip(gradients, found, strict=True))
    assert any(bool(each.any()) for each in gradients)
    assert kept_less < 0.5 * kept


def test_dropout_that_goes_on_instead_of_back_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pass, "here", lambda self: replace(self))
    (loss, gradients, _), (again, found, _) = both("Bert", "MaskedLM", seed, flat=True)
    assert again == loss
    assert not all(torch.equal(one, other) for one, other in zip(gradients, found, strict=True))


def test_nothing_is_kept_below_a_frozen_body(seed: int) -> None:
    """Its input has no gradient, whatever transformers does to let one through."""
    model = build("Bert", "SequenceClassification", seed)
    model.base_model.requires_grad_(False)
    checkpoint_layers(model)
    model.base_model.eval()
    hidden = model.base_model(**random_batch(seed)).last_hidden_state
    assert not hidden.requires_grad


def test_a_family_that_cannot_is_refused_by_the_name_of_the_key(seed: int) -> None:
    with pytest.raises(ConfigurationError, match=r"albert.*second time") as caught:
        checkpoint_layers(build("Albert", "MaskedLM", seed))
    assert caught.value.where == "training.gradient_checkpointing"
