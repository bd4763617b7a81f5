"""How well a base model says held-out text, with intervals over documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from graftlm.data.features import IGNORED
from graftlm.pretraining_objectives._examples import PAIRS, TOKENS, CorpusExamples
from graftlm.pretraining_objectives._objective import PretrainingObjective, losses
from graftlm.scoring.scores import Score, Scores
from graftlm.training.memory import SMALLER_STEPS, memory_for

RESAMPLES = 2_000


@dataclass(frozen=True, eq=False)
class Sums:
    """What was said about held-out examples, in one place for each document.

    Args:
        nats: kind of target -> summed loss of each document.
        right: kind of target -> right answers in each document.
        counts: kind of target -> targets in each document.
        bytes: UTF-8 bytes of each document.
    """

    nats: Mapping[str, NDArray[np.float64]]
    right: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.float64]]
    bytes: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """The objective over all examples."""
        return sum(float(self.nats[kind].sum() / self.counts[kind].sum()) for kind in self.nats)

    def scores(self, objective: PretrainingObjective, confidence: float, seed: int) -> Scores:
        """Return every value with its interval: whole documents are drawn with replacement."""
        documents = len(self.bytes)
        draws = np.random.default_rng(seed).multinomial(
            documents, np.full(documents, 1 / documents), RESAMPLES
        )
        points = self._values(np.ones((1, documents)), objective)
        resampled = self._values(draws.astype(np.float64), objective)
        ends = [(1 - confidence) / 2, (1 + confidence) / 2]
        return Scores(
            values={
                name: Score(float(values[0]), *map(float, np.nanquantile(resampled[name], ends)))
                for name, values in points.items()
            },
            primary="loss",
            greater_is_better=False,
            rows=documents,
            confidence=confidence,
            resamples=RESAMPLES,
            labels=(),
            references=[],
            confusion=[],
        )

    def _values(
        self, draws: NDArray[np.float64], objective: PretrainingObjective
    ) -> dict[str, NDArray[np.float64]]:
        """Return each value for every draw, [draws]; ``draws`` say how often each document counts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {kind: (draws @ self.nats[kind]) / (draws @ self.counts[kind]) for kind in self.nats}
            values = {"loss": sum(means.values(), start=np.zeros(len(draws)))}
            values["perplexity"] = np.exp(means[TOKENS])
            if objective.says_every_token:
                values["bits_per_byte"] = (draws @ self.nats[TOKENS]) / (draws @ self.bytes) / math.log(2)
            for name, kind in objective.measures.items():
                if kind in self.right:
                    values[name] = (draws @ self.right[kind]) / (draws @ self.counts[kind])
        return values


def evaluate(
    model: nn.Module,
    source: CorpusExamples,
    objective: PretrainingObjective,
    budget: tuple[int, int],
    device: torch.device,
    autocast: torch.dtype | None,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> Sums:
    """Score the first examples of a source; what chance decides about them is always the same.

    Args:
        model: in any mode; it is left in evaluation mode.
        source: of held-out examples.
        objective: that is trained.
        budget: tokens of a forward pass, and tokens in all; examples of whole documents are taken until it is spent.
        device: of the model.
        autocast: dtype of the forward pass, or None for float32.
        on_batch: told how many examples each batch had.
    """
    model.eval()
    examples = source.in_pass(0).at(1.0)
    lengths, document = examples.lengths, examples.documents()
    order = np.argsort(document, kind="stable")
    spent = np.cumsum(lengths[order])
    last = document[order[min(len(order) - 1, int(np.searchsorted(spent, budget[1])))]]
    rows = np.flatnonzero(document <= last)
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"nats": {}, "right": {}, "counts": {}}
    with torch.inference_mode():
        at = 0
        while at < len(rows):
            part = rows[at : at + max(1, budget[0] // int(lengths[rows[at]]))]
            batch = examples.batch(part, device)
            with memory_for(f"evaluation, batch of {batch.size}", SMALLER_STEPS):
                outputs, targets = objective.forward(model, batch, autocast)
            assert batch.targets is not None
            owners = {
                TOKENS: document[part].repeat((batch.targets != IGNORED).sum(dim=1).cpu().numpy()),
                PAIRS: document[part],
            }
            for kind, logits in outputs.items():
                said = targets[kind]
                for name, values in (
                    ("nats", losses(logits, said)),
                    ("right", logits.argmax(dim=-1) == said),
                    ("counts", torch.ones_like(said)),
                ):
                    found = np.bincount(owners[kind], values.double().cpu().numpy(), minlength=int(last) + 1)
                    sums[name][kind] = sums[name].get(kind, np.zeros(int(last) + 1)) + found
            at += len(part)
            on_batch(len(part))
    seen = np.unique(document[rows])
    kept = {name: {kind: values[seen] for kind, values in each.items()} for name, each in sums.items()}
    return Sums(**kept, bytes=source.corpus.document_bytes[seen].astype(np.float64))
