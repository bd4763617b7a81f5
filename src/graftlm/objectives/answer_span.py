"""Cross-entropy of where an answer starts and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from graftlm.config import Config
from graftlm.data.features import Targets
from graftlm.objectives._objective import Term

_ENDS = ("start", "end")


class SpanCrossEntropy:
    """Softmax cross-entropy over the tokens of each example, for the start and for the end, each counting half."""

    def weights(self, targets: Tensor) -> dict[str, float]:
        """Return the divisors: the number of examples in the targets [examples, 2]."""
        return dict.fromkeys(_ENDS, float(len(targets)))

    def terms(self, outputs: Tensor, targets: Tensor) -> list[Term]:
        """Return the summed losses of outputs [examples, tokens, 2] against positions [examples, 2].

        Outputs of minus infinity are padding. Positions count the tokens of an example without it, so they mean the
        same where padding stands on the left.
        """
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        first = (outputs[..., 0] != -torch.inf).int().argmax(dim=1)
        return [
            Term(
                name,
                functional.cross_entropy(outputs[..., end], first + targets[:, end], reduction="sum"),
                0.5,
            )
            for end, name in enumerate(_ENDS)
        ]


class AnswerSpan(Config):
    """Mean over examples of ``-(log p_start(s) + log p_end(e)) / 2``, p the softmax over the tokens of the example.

    Source: Devlin et al., BERT, 2019, section 4.2; equal to the loss of the question answering heads of transformers
    where nothing is padded.
    """

    name: ClassVar[str] = "answer_span"
    kinds: ClassVar[tuple[str, ...]] = ("answers",)

    def bind(self, targets: Targets, labels: Sequence[str]) -> SpanCrossEntropy:
        """Nothing depends on the training data."""
        return SpanCrossEntropy()
