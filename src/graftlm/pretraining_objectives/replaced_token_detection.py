"""Replaced-token detection, as ELECTRA was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from transformers import ElectraConfig, PreTrainedConfig, PreTrainedModel

from graftlm.config import Config
from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.corruption.masking import Masking, mask_tokens
from graftlm.data.corruption.uniforms import Keys, uniforms
from graftlm.data.features import IGNORED
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError
from graftlm.kernels.keys import keys_of_pass
from graftlm.models.generator import add_generator, decisions, draw, generator_of
from graftlm.models.vocabulary import Vocabulary
from graftlm.pretraining_objectives._examples import (
    REPLACED,
    TOKENS,
    CorpusExamples,
    Cut,
    Made,
    surrounded,
    windows,
)
from graftlm.pretraining_objectives._objective import CrossEntropies, Longest, Reading, Said, only_read
from graftlm.training.batching import Batch
from graftlm.training.loop import Forward
from graftlm.training.outputs import result_where_targets

_FEWEST = 4  # of a window with fewer tokens hardly one would be hidden

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def forward_replaced(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    dropout_keys: NDArray[np.uint64] | None = None,
) -> tuple[Said, Said]:
    """Let the generator say hidden tokens and draw some in their place, and the network say which it has replaced.

    A network without generator, as it is saved, judges what it is given.

    Returns:
        Logits of the hidden tokens, [targets, vocabulary], and of the judged ones, [judged, 2]; and the targets.
    """
    bare: PreTrainedModel = extract_model_from_parallel(model)
    generator = generator_of(bare)
    outputs: dict[str, Tensor] = {}
    said: dict[str, Tensor] = {}
    if generator is not None:
        result, targets = result_where_targets(generator, batch, autocast, dropout_keys)
        outputs[TOKENS], said[TOKENS] = result.logits[0], targets[0]
        batch = replaced(batch, outputs[TOKENS])
        if dropout_keys is not None:
            dropout_keys = keys_of_pass(dropout_keys, 1)
    judging = replace(batch, targets=batch.judged)
    result, targets = result_where_targets(model, judging, autocast, dropout_keys)
    logits = result.logits[0].to(torch.promote_types(result.logits.dtype, torch.float32))
    # The sigmoid of one number is the softmax of it and zero.
    outputs[REPLACED], said[REPLACED] = torch.stack([torch.zeros_like(logits), logits], dim=1), targets[0]
    return outputs, said


def replaced(batch: Batch, logits: Tensor) -> Batch:
    """Return a batch with drawn tokens where some were hidden; judged ones are 1 where another token stands now.

    Args:
        batch: with `Batch.judged` and `Batch.chances`.
        logits: of the hidden tokens, [targets, vocabulary].
    """
    assert batch.targets is not None and batch.judged is not None and batch.chances is not None
    drawn, hidden = draw(logits, batch.chances), batch.targets != IGNORED
    ids = batch.inputs["input_ids"].masked_scatter(hidden, drawn)
    others = (drawn != batch.targets[hidden]).long()
    return replace(
        batch,
        inputs={**batch.inputs, "input_ids": ids},
        judged=batch.judged.masked_scatter(hidden, others),
    )


class ReplacedTokenDetection(Config):
    """A small generator fills in hidden tokens; the network says of each token whether it is the one of the text.

    ``mean over hidden tokens of -log p_G(token | what is left)
    + discriminator_weight * mean over tokens of -log p_D(replaced or not | the filled-in text)``.

    A drawn token that is that of the text counts as not replaced; no gradient flows through the drawing (Clark et al.
    2020). The base model is the network alone; the generator is saved beside it.
    """

    name: ClassVar[str] = "replaced_token_detection"
    learning_rate: ClassVar[float] = 1e-3
    forward: ClassVar[Forward] = staticmethod(forward_replaced)
    says_every_token: ClassVar[bool] = False
    longest_example: ClassVar[Longest] = staticmethod(only_read)
    measures: ClassVar[Mapping[str, str]] = {"masked_accuracy": TOKENS, "detection_accuracy": REPLACED}

    mask_share: Share = 0.15
    """Expected share of the tokens that are hidden from the generator."""

    generator_size: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Width of the generator, as a part of that of the network; it has as many layers."""

    discriminator_weight: PositiveFloat = 50.0
    """How much the loss of the network counts beside that of the generator."""

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class with a head that judges each token."""
        return "AutoModelForPreTraining"

    def loss(self) -> CrossEntropies:
        """Return both cross-entropies, that of the network weighted."""
        return CrossEntropies({REPLACED: self.discriminator_weight})

    def complete(self, model: PreTrainedModel, seed: int) -> list[str]:
        """Put a generator beside the network."""
        return add_generator(model, self.generator_size, seed)

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse a family without a head that judges each token, and a tokenizer without a mask."""
        if not isinstance(config, ElectraConfig):
            raise ConfigurationError(
                f"a {config.model_type} model has no head that tells replaced tokens",
                where="objective.name",
                fix="choose an ELECTRA architecture or base model, or another objective",
            )
        if vocabulary.mask is None:
            raise ConfigurationError("this tokenizer has no token for what is hidden", where="base")

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return windows of documents, of which tokens are hidden and drawn anew in each pass."""
        assert vocabulary.mask is not None
        # Always by the mask, as the paper has it: what is drawn, not what is hidden, is like the text.
        masking = Masking(vocabulary.mask, vocabulary.ordinary, random_share=0.0, kept_share=0.0)
        template, halvings = vocabulary.single, decisions(vocabulary.size)

        def cutting(number: int, short: bool) -> Cut:
            room = reading.length(short) - template.size
            return windows(corpus.document_starts, room, template.size, _FEWEST)

        def make(cut: Cut, texts: list[Ragged], keys: Keys, progress: float) -> Made:
            whole = surrounded(texts, template.parts)
            masked = mask_tokens(whole, keys, self.mask_share, masking)
            hidden = masked.targets.values != IGNORED
            # In 24 bits, so that none is rounded to 1.
            numbers = uniforms(keys, whole.lengths * halvings, "tokens that are drawn").reshape(-1, halvings)
            chances = (np.floor(numbers[hidden] * 2.0**24) * 2.0**-24).astype(np.float32)
            judged = np.where(vocabulary.ordinary[whole.values], np.int32(0), np.int32(IGNORED))
            inputs = {"input_ids": masked.inputs}
            if "token_type_ids" in vocabulary.padding:
                inputs["token_type_ids"] = Ragged(np.zeros_like(whole.values), whole.starts)
            return Made(inputs, masked.targets, Ragged(judged, whole.starts), chances)

        return CorpusExamples(corpus, cutting, make, reading.seed, vocabulary.padding)
