"""What every objective of pretraining answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from graftlm.data.corpus.shards import TokenCorpus
from graftlm.data.features import IGNORED
from graftlm.models.pair_heads import has_pair_head, pair_logits, pair_logits_of_tokens
from graftlm.models.vocabulary import Vocabulary
from graftlm.objectives._objective import Term
from graftlm.pretraining_objectives._examples import PAIRS, TOKENS, CorpusExamples
from graftlm.training.batching import Batch
from graftlm.training.loop import Forward
from graftlm.training.outputs import result_where_targets

Said = Mapping[str, Tensor]
"""Outputs or targets by what they are about, see `TOKENS`, `PAIRS` and `REPLACED`."""
_ASKED = -1
"""In place of a target, at first tokens: what is said there is read, too."""
Complete = Callable[[PreTrainedModel, int], list[str]]
"""See `PretrainingObjective.complete`."""
Longest = Callable[[Vocabulary, int], int]
"""See `PretrainingObjective.longest_example`."""


@dataclass(frozen=True)
class Reading:
    """How long examples are.

    Args:
        tokens: of an example at most, special tokens included.
        short_tokens: of the short ones at the beginning of a run.
        seed: of the run.
    """

    tokens: int
    short_tokens: int
    seed: int

    def length(self, short: bool) -> int:
        """Return the tokens of an example at most."""
        return self.short_tokens if short else self.tokens


class PretrainingObjective(Protocol):
    """What is learnt from raw text. One file per objective; the file name is the name in a recipe."""

    name: ClassVar[str]
    learning_rate: ClassVar[float]
    """Peak learning rate of AdamW where the recipe names none."""
    says_every_token: ClassVar[bool]
    """Whether each token of a text is a target once, so that the loss of a text is its code length."""
    measures: ClassVar[Mapping[str, str]]
    """Name of a value -> what it is about (`TOKENS`, `PAIRS` or `REPLACED`): shares of right answers."""

    def dump(self) -> dict[str, Any]:
        """Return its options as plain values."""
        ...

    def architecture(self, config: PreTrainedConfig) -> str:
        """Return the auto class of transformers that gives a family the head it needs."""
        ...

    def longest_example(self, vocabulary: Vocabulary, tokens: int) -> int:
        """Return how many tokens an example has, read and written, of which at most ``tokens`` are read."""
        ...

    @property
    def forward(self) -> Forward:
        """What runs a model on a batch, see `forward_tokens`."""
        ...

    def loss(self) -> CrossEntropies:
        """Return what is minimised."""
        ...

    def complete(self, model: PreTrainedModel, seed: int) -> list[str]:
        """Put beside a network what its training needs and nobody else, drawn from ``seed``.

        Returns:
            The names of its weights.
        """
        ...

    def check(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Refuse, with a `ConfigurationError`, a family or a tokenizer that cannot be trained so."""
        ...

    def examples(self, corpus: TokenCorpus, vocabulary: Vocabulary, reading: Reading) -> CorpusExamples:
        """Return what is read and said of a corpus."""
        ...


def only_read(vocabulary: Vocabulary, tokens: int) -> int:
    """See `PretrainingObjective.longest_example`: nothing is written."""
    return tokens


def complete_itself(model: PreTrainedModel, seed: int) -> list[str]:
    """Put nothing beside a network."""
    return []


@dataclass(frozen=True)
class CrossEntropies:
    """``sum over kinds of coefficient * (sum over targets of -log softmax(logits)[target]) / number of targets``.

    A model that knows nothing has the loss ln(vocabulary) for tokens, ln 2 for pairs and for what is replaced, each
    times its coefficient.

    Args:
        coefficients: kind -> how much it counts; 1 where it is not named.
    """

    coefficients: Mapping[str, float] = field(default_factory=dict[str, float])

    def sum(self, means: Mapping[str, Any]) -> Any:
        """Return the loss, made of the mean of each kind."""
        return sum(self.coefficients.get(kind, 1.0) * mean for kind, mean in means.items())

    def weights(self, targets: Said) -> dict[str, float]:
        """Return how many targets of each kind there are."""
        return {kind: float((values != IGNORED).sum()) for kind, values in targets.items()}

    def terms(self, outputs: Said, targets: Said) -> list[Term]:
        """Return the summed loss of each kind, from logits [targets, classes] in float32 or finer."""
        return [
            Term(kind, losses(outputs[kind], targets[kind]).sum(), self.coefficients.get(kind, 1.0))
            for kind in targets
        ]


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -log softmax(logits)[target] of each target, [targets]."""
    return functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none"
    )


def forward_tokens(
    model: nn.Module,
    batch: Batch,
    autocast: torch.dtype | None,
    dropout_keys: NDArray[np.uint64] | None = None,
) -> tuple[Said, Said]:
    """Run a model with a head for the tokens of its vocabulary, and maybe one for pairs.

    Where there is none for pairs, the head for tokens judges them, see `pair_logits_of_tokens`.

    Returns:
        Logits at the places that have a target, [targets, vocabulary], those of pairs [examples, 2], and the targets.
    """
    if batch.in_order is None:
        logits, targets = _tokens(model, batch, autocast, dropout_keys)
        return {TOKENS: logits}, {TOKENS: targets}
    # The heads of transformers say 0 for two texts that belong together.
    apart = 1 - batch.in_order
    if has_pair_head(type(extract_model_from_parallel(model))):
        result, targets = result_where_targets(model, batch, autocast, dropout_keys)
        outputs = {TOKENS: result.prediction_logits[0], PAIRS: pair_logits(result)}
        return outputs, {TOKENS: targets[0], PAIRS: apart}
    assert batch.targets is not None
    asked = torch.cat([torch.full_like(batch.targets[:, :1], _ASKED), batch.targets[:, 1:]], dim=1)
    logits, targets = _tokens(model, replace(batch, targets=asked), autocast, dropout_keys)
    first = targets == _ASKED
    lengths = batch.real.sum(dim=1).to(logits.device)
    judged = pair_logits_of_tokens(logits[first], batch.inputs["input_ids"], lengths)
    return {TOKENS: logits[~first], PAIRS: judged}, {TOKENS: targets[~first], PAIRS: apart}


def _tokens(
    model: nn.Module, batch: Batch, autocast: torch.dtype | None, dropout_keys: NDArray[np.uint64] | None
) -> tuple[Tensor, Tensor]:
    """Return the logits at the places that have a target, [targets, vocabulary], and the targets."""
    result, targets = result_where_targets(model, batch, autocast, dropout_keys)
    return result.logits[0], targets[0]
